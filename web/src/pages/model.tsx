// The card of one model: its scores, a form to try it, its data, how it was tuned, and its details.

import { MessageSquare } from "lucide-react";
import { DataSection } from "../components/model/data-section";
import { DetailsSection } from "../components/model/details-section";
import { ScoreTable } from "../components/model/score-table";
import { TryForm } from "../components/model/try-form";
import { TuningSection } from "../components/model/tuning-section";
import { PageLayout } from "../components/ui/page-layout";
import { WhenLoaded } from "../components/ui/when-loaded";
import { conclusion } from "../i18n/evaluation";
import { useFormat } from "../i18n/format";
import { modelSummary } from "../i18n/model-summary";
import { useTranslate } from "../i18n/translate";
import type { ModelCard, SystemScore } from "../lib/api-types";
import { paths } from "../lib/router";
import { useFetch } from "../lib/use-fetch";

export function ModelPage({ name }: { name: string }) {
  const t = useTranslate();
  const format = useFormat();
  const result = useFetch<ModelCard>(`/api/models/${encodeURIComponent(name)}`);
  const summary = result.data
    ? modelSummary({ ...result.data, licence: result.data.licence?.id ?? null }, t, format)
    : "";
  const isMissing = result.error?.status === 404;
  const action = isMissing ? (
    <a className="button" href={`#${paths.models}`}>
      {t("allModels")}
    </a>
  ) : (
    <a className="button primary" href={`#${paths.newConversationWith(name)}`}>
      <MessageSquare aria-hidden /> {t("chat")}
    </a>
  );
  return (
    <PageLayout title={name} description={summary} action={action}>
      <WhenLoaded result={result}>
        {(card) => (
          <>
            {card.made && <ScoreSection scores={card.made.scores} name={name} />}
            <section className="section">
              <h2>{t("tryModel")}</h2>
              {card.instruction && <p className="small">{t("instruction", card.instruction)}</p>}
              <TryForm key={name} model={name} />
            </section>
            {card.made && <DataSection record={card.made} model={name} />}
            {card.made && <TuningSection record={card.made} />}
            <DetailsSection card={card} />
          </>
        )}
      </WhenLoaded>
    </PageLayout>
  );
}

function ScoreSection({ scores, name }: { scores: SystemScore[]; name: string }) {
  const t = useTranslate();
  const format = useFormat();
  const sentence = conclusion(scores, t, format);
  return (
    <section className="section">
      <h2>{t("scores")}</h2>
      {scores.length === 0 && <p className="small">{t("notEvaluated")}</p>}
      {sentence && <p className="conclusion">{sentence}</p>}
      {scores.length > 0 && <ScoreTable scores={scores} specialist={name} />}
    </section>
  );
}
