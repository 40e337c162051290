// Hook for forms: runs an action, keeps its error message, and calls `onSuccess` when it worked.

import { useState } from "react";
import { errorMessage } from "../../i18n/error-message";
import { useTranslate } from "../../i18n/translate";

interface Submit {
  error: string;
  submit: (action: () => Promise<void>) => Promise<void>;
}

export function useSubmit(onSuccess: () => void): Submit {
  const t = useTranslate();
  const [error, setError] = useState("");
  const submit = async (action: () => Promise<void>): Promise<void> => {
    try {
      await action();
      setError("");
      onSuccess();
    } catch (caught) {
      setError(errorMessage(caught, t));
    }
  };
  return { error, submit };
}
