// Shows a message instead of nothing when rendering a page fails.

import { Component, type ReactNode } from "react";
import { useTranslate } from "../../i18n/translate";

export class ErrorBoundary extends Component<{ children: ReactNode }, { hasError: boolean }> {
  override state = { hasError: false };

  static getDerivedStateFromError(): { hasError: boolean } {
    return { hasError: true };
  }

  override render(): ReactNode {
    return this.state.hasError ? <CrashedPage /> : this.props.children;
  }
}

function CrashedPage() {
  const t = useTranslate();
  return (
    <main className="centered-page">
      <p role="alert">{t("pageCrashed")}</p>
      <button type="button" onClick={() => location.reload()}>
        {t("retry")}
      </button>
    </main>
  );
}
