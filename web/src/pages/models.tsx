// The list of all models.

import { MessageSquare } from "lucide-react";
import { ScoreLine } from "../components/model/score-line";
import { PageLayout } from "../components/ui/page-layout";
import { WhenLoaded } from "../components/ui/when-loaded";
import { useFormat } from "../i18n/format";
import { modelSummary } from "../i18n/model-summary";
import { useTranslate } from "../i18n/translate";
import type { ModelListItem } from "../lib/api-types";
import { paths } from "../lib/router";
import { useFetch } from "../lib/use-fetch";

export function ModelsPage() {
  const t = useTranslate();
  const result = useFetch<{ models: ModelListItem[] }>("/api/models");
  return (
    <PageLayout title={t("models")} description={t("modelsHelp")}>
      <WhenLoaded result={result}>
        {({ models }) => (
          <>
            <ModelGroup
              title={t("specialists")}
              models={models.filter(({ kind }) => kind === "specialist")}
              emptyText={t("noSpecialists")}
            />
            <ModelGroup title={t("baseModels")} models={models.filter(({ kind }) => kind !== "specialist")} />
          </>
        )}
      </WhenLoaded>
    </PageLayout>
  );
}

interface GroupProps {
  title: string;
  models: ModelListItem[];
  /** Without it, an empty group is not shown. */
  emptyText?: string;
}

function ModelGroup({ title, models, emptyText }: GroupProps) {
  const t = useTranslate();
  const format = useFormat();
  if (models.length === 0 && !emptyText) return null;
  return (
    <section className="section">
      <h2>{title}</h2>
      {models.length === 0 && <p className="small">{emptyText}</p>}
      <ul className="card-list">
        {models.map((model) => (
          <li key={model.name}>
            <a className="card-title" href={`#${paths.model(model.name)}`}>
              {model.name}
            </a>
            <p className="small">{modelSummary(model, t, format)}</p>
            <ScoreLine score={model.score} />
            <a
              className="button"
              href={`#${paths.newConversationWith(model.name)}`}
              aria-label={t("chatWith", model.name)}
            >
              <MessageSquare aria-hidden /> {t("chat")}
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}
