// What is known of a model: licence, labels, training data, statements by others, size. And what is missing.

import type { MessageKey } from "../../i18n/en";
import { useFormat, type Format } from "../../i18n/format";
import { useTranslate, type Translate } from "../../i18n/translate";
import type { ModelCard } from "../../lib/api-types";
import { DescriptionList, type DescriptionItem } from "../ui/description-list";
import { TagList } from "../ui/tag-list";

const MISSING: Record<string, MessageKey> = {
  licence: "unknownLicence",
  data: "unknownData",
  ancestor: "unknownAncestor",
  rows: "unknownRows",
  end: "unknownEnd",
  base: "unknownBase",
  scores: "unknownScores",
};

export function DetailsSection({ card }: { card: ModelCard }) {
  const t = useTranslate();
  const format = useFormat();
  if (card.kind === "path") return null;
  const items: DescriptionItem[] = [[t("licence"), <Licence key="licence" licence={card.licence} />]];
  if (card.label_names?.length) items.push([t("labels"), <TagList key="labels" tags={card.label_names} />]);
  items.push([t("trainingData"), trainingData(card, t, format)]);
  if (card.disclosure?.statements.length)
    items.push([t("statements"), <Statements key="statements" statements={card.disclosure.statements} />]);
  items.push([t("missingInformation"), <MissingInformation key="missing" record={card.made} />]);
  if (card.parameters) {
    const parameters = t("parameterCount", format.integer(card.parameters));
    items.push([t("size"), `${parameters}, ${card.format ?? ""}, ${format.bytes(card.size ?? 0)}`]);
  }
  if (card.id) items.push([t("modelId"), <code key="id">{card.id}</code>]);
  return (
    <section className="section">
      <h2>{t("modelDetails")}</h2>
      <DescriptionList items={items} />
    </section>
  );
}

function Licence({ licence }: { licence: ModelCard["licence"] }) {
  const t = useTranslate();
  return (
    <>
      {licence?.title ?? licence?.id ?? t("licenceNotStated")}
      {licence?.note && <span className="small block">{licenceNote(licence.id, t) ?? licence.note}</span>}
      {licence?.according_to && (
        <span className="small block">{t("accordingTo", sourceName(licence.according_to, t))}</span>
      )}
    </>
  );
}

function Statements({ statements }: { statements: { according_to: string; says: string }[] }) {
  const t = useTranslate();
  return statements.map(({ says, according_to }, i) => (
    <p key={i}>
      <span lang="en">{says}</span> <span className="small">({t("accordingTo", sourceName(according_to, t))})</span>
    </p>
  ));
}

function MissingInformation({ record }: { record: ModelCard["made"] }) {
  const t = useTranslate();
  if (!record) return t("notTunedHere");
  if (record.not_known.length === 0) return t("nothingMissing");
  return (
    <ul className="bullet-list">
      {record.not_known.map(({ what, about, more }) => (
        <li key={what + about + more}>{t(MISSING[what] ?? "unknown", about, more)}</li>
      ))}
    </ul>
  );
}

function trainingData(card: ModelCard, t: Translate, format: Format): string {
  const sources = card.made?.sources ?? [];
  if (sources.length > 0) {
    const numRows = sources.reduce((sum, source) => sum + (source.rows.train ?? 0), 0);
    return t("tunedOnRows", format.integer(numRows), sources.map((source) => source.path).join(", "));
  }
  const disclosed = card.disclosure?.in_files;
  return !disclosed || disclosed === "not disclosed" ? t("notDisclosed") : disclosed;
}

/** The server's note on a licence that it knows, translated. */
function licenceNote(licence: string | null, t: Translate): string | null {
  if (licence === "Apache-2.0") return t("noteApache");
  if (licence === "MIT") return t("noteMit");
  return licence?.startsWith("llama") ? t("noteCommunity") : null;
}

/** The server names a base model as a source in English. */
function sourceName(source: string, t: Translate): string {
  const base = /^its base, (.+)$/.exec(source)?.[1];
  return base ? t("itsBaseModel", base) : source;
}
