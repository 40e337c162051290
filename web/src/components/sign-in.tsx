// The sign-in form, which takes a key or a pasted sign-in link.

import { useState, type FormEvent } from "react";
import { errorMessage } from "../i18n/error-message";
import { useTranslate } from "../i18n/translate";
import { ApiError, request } from "../lib/api";
import { codeFromHash } from "../lib/sign-in-link";
import { FormError } from "./ui/form-error";
import { Logo } from "./ui/logo";

export function SignIn({ isLinkExpired, onSignedIn }: { isLinkExpired: boolean; onSignedIn: () => void }) {
  const t = useTranslate();
  const [error, setError] = useState("");

  async function handleSubmit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const input = String(new FormData(event.currentTarget).get("key")).trim();
    const linkCode = codeFromHash(input.replace(/^[^#]*/, ""));
    try {
      await request("POST", "/api/signin", { code: linkCode ?? input });
      onSignedIn();
    } catch (caught) {
      const isRejected = caught instanceof ApiError && caught.status === 401;
      setError(isRejected ? t(linkCode ? "linkExpired" : "keyUnknown") : errorMessage(caught, t));
    }
  }

  return (
    <main className="centered-page">
      <form className="sign-in-card" onSubmit={(event) => void handleSubmit(event)}>
        <h1 className="brand">
          <Logo /> Empu
        </h1>
        <p>{t(isLinkExpired ? "linkExpired" : "signInHelp")}</p>
        <label htmlFor="key">{t("accessKey")}</label>
        <input id="key" name="key" type="password" autoComplete="current-password" required autoFocus />
        <FormError message={error} />
        <button type="submit" className="primary">
          {t("signIn")}
        </button>
      </form>
    </main>
  );
}
