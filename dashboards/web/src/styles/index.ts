/** Styles of all pages. Later ones override earlier ones. */

import "@fontsource-variable/inter/wght.css";
import "uplot/dist/uPlot.min.css";
import "./tokens.css";
import "./base.css";
import "./shell.css";
import "./fleet.css";
import "./device.css";
import "./commands.css";
import "./jobs.css";
import "./flow.css";
import "./chart.css";
import "./quarantine.css";
import "./mqtt.css";
import "./access.css";
import "./try.css";
import "./board.css";
import "./overlay.css";
