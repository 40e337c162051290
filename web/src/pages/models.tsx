// Every model that can be asked.

import { MessageSquare } from "lucide-react";
import { Page, Waiting } from "../components/page";
import { measureName } from "../lib/contestants";
import { useLoaded } from "../lib/load";
import { paths } from "../lib/router";
import { useNumbers, useSay, type Numbers, type Say } from "../lib/say";
import type { BriefInList } from "../lib/types";

export function ModelsPage() {
  const say = useSay();
  const loaded = useLoaded<{ models: BriefInList[] }>("/api/models");
  return (
    <Page title={say("specialists")} said={say("modelsSaid")}>
      <Waiting loaded={loaded}>
        {({ models }) => (
          <>
            <Group
              title={say("specialistsOnly")}
              models={models.filter((one) => one.kind === "specialist")}
              empty={say("noSpecialists")}
            />
            <Group title={say("baseModels")} models={models.filter((one) => one.kind !== "specialist")} />
          </>
        )}
      </Waiting>
    </Page>
  );
}

function Group({ title, models, empty }: { title: string; models: BriefInList[]; empty?: string }) {
  const say = useSay();
  const numbers = useNumbers();
  if (models.length === 0 && !empty) return null;
  return (
    <section className="section">
      <h2>{title}</h2>
      {models.length === 0 && <p className="small">{empty}</p>}
      <ul className="cards">
        {models.map((one) => (
          <li key={one.name}>
            <a className="name" href={`#${paths.model(one.name)}`}>
              {one.name}
            </a>
            <p className="small">{about(one, say, numbers)}</p>
            <ScoreLine brief={one} />
            <a className="button" href={`#${paths.freshWith(one.name)}`} aria-label={say("chatWith", one.name)}>
              <MessageSquare aria-hidden /> {say("chat")}
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** How well a specialist did, in a line; nothing for what was not compared. */
export function ScoreLine({ brief }: { brief: BriefInList }) {
  const say = useSay();
  const numbers = useNumbers();
  const { score } = brief;
  if (!score) return null;
  return (
    <p className="small score">
      <strong>{numbers.percent(score.value)}</strong> {measureName(score.metric, say)}{" "}
      {say("heldOut", numbers.count(score.rows))}
    </p>
  );
}

export function about(one: BriefInList, say: Say, numbers: Numbers): string {
  if (one.kind === "path") return say("servedFromPath");
  const said: string[] = [];
  if (one.kind === "base" && one.title) said.push(one.title);
  if (one.base) said.push(say("tunedFrom", one.base));
  if (one.task === "label") said.push(say("namesLabels", one.labels ?? 0));
  else if (one.task === "completion") said.push(say("writesAnswers"));
  else if (one.task === "messages") said.push(say("holdsDialogues"));
  if (one.kind === "base" && one.parameters) said.push(say("parameters", numbers.fixed(one.parameters / 1e6, 0)));
  if (one.size) said.push(numbers.bytes(one.size));
  said.push(one.licence ?? say("licenceUnknown"));
  return said.join(" · ");
}
