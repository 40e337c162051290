// A failure that belongs to nothing on the page: said until it is closed.

import { X } from "lucide-react";
import { useWatched } from "../lib/external";
import { notice } from "../lib/notice";
import { useSay } from "../lib/say";
import { told } from "../lib/told";
import { IconButton } from "./icon-button";

export function Notice() {
  const say = useSay();
  const said = useWatched(notice);
  if (said === null) return null;
  return (
    <div className="notice" role="alert">
      <p>{told(said, say)}</p>
      <IconButton label={say("close")} icon={<X />} onClick={() => notice.set(null)} />
    </div>
  );
}
