/** The page that the hub sends for an unknown address: text alone, in the theme that this browser remembers. */

import "./styles";
import { startTheme } from "./ui/preferences";

startTheme();
