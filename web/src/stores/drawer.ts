// Whether the sidebar is open as a drawer, on screens that are too narrow to show it beside the page.

import { Store } from "../lib/store";

export const isDrawerOpen = new Store(false);
