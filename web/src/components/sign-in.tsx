// The only page without a session: a key, or what to do with the link.

import { useState, type FormEvent } from "react";
import { ApiError, call } from "../lib/api";
import { codeIn } from "../lib/link";
import { useSay } from "../lib/say";
import { told } from "../lib/told";
import { Mark } from "./mark";

export function SignIn({ linkUsed, onIn }: { linkUsed: boolean; onIn: () => void }) {
  const say = useSay();
  const [problem, setProblem] = useState("");

  async function submit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const typed = String(new FormData(event.currentTarget).get("key")).trim();
    const link = codeIn(typed.replace(/^[^#]*/, "")); // the whole link is as good as a key
    const code = link ?? typed;
    try {
      await call("POST", "/api/signin", { code });
      onIn();
    } catch (error) {
      const isRefused = error instanceof ApiError && error.status === 401;
      setProblem(isRefused ? say(link ? "linkUsed" : "keyUnknown") : told(error, say));
    }
  }

  return (
    <main className="alone">
      <form className="card" onSubmit={(event) => void submit(event)}>
        <h1 className="brand">
          <Mark /> Empu
        </h1>
        <p>{linkUsed ? say("linkUsed") : say("signinHelp")}</p>
        <label htmlFor="key">{say("key")}</label>
        <input id="key" name="key" type="password" autoComplete="current-password" required autoFocus />
        <p className="error" role="alert">
          {problem}
        </p>
        <button type="submit" className="primary">
          {say("signin")}
        </button>
      </form>
    </main>
  );
}
