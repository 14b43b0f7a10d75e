/** Units that are recognised behind numbers and in headers, and their symbols. As in values.py; a test compares them. */

const LISTED = `
  °C °F °K C F K Cel degC degF % %RH %rF ‰ V mV µV uV kV A mA µA uA kA W mW kW MW Wh kWh MWh VA kVA var kvar VAr Hz
  kHz MHz GHz Pa hPa kPa MPa mbar bar psi inHg mmHg mmH2O m cm mm km µm um in ft mi kg g mg µg t lb l L ml mL m³ m3
  l/min l/h L/min L/h m³/h m3/h m/s km/h mph kn kt kts rpm 1/min s ms min h d lx lux lm cd dB dBm dBA dB(A) ppm ppb
  µg/m³ ug/m3 µg/m3 mg/m³ mg/m3 mg/l mg/L V/m W/m² W/m2 Ω ohm Ohm kΩ kOhm ° deg µS/cm uS/cm mS/cm pH J kJ MJ N Nm
  kN B kB MB GB kbit/s Mbit/s mAh Ah mA/h F µF nF H mT µT uT T Bq Bq/m³ µSv/h uSv/h mm/h g/m³ kg/m³ €/kWh
`;

/** Units that are recognised behind a single number. Other units need a column whose numbers all have the same. */
export const UNITS: ReadonlySet<string> = new Set(LISTED.trim().split(/\s+/));

/** Other writings of each symbol that is stored and shown. */
const WRITINGS: Record<string, string[]> = {
  "°C": ["*C", "ºC", "℃", "Cel", "degC", "deg C", "Deg C", "Celsius", "Celcius", "celsius"],
  "°F": ["*F", "ºF", "℉", "degF", "deg F", "Deg F", "Fahrenheit", "fahrenheit"],
  "%": ["%RH", "%rF", "percent"],
  V: ["Volts", "volts"],
  W: ["Watts"],
  Ω: ["Ohm", "ohm"],
  "°": ["deg", "degrees", "Degrees"],
  "m³": ["m3", "m^3"],
  "m³/h": ["m3/h", "m^3/h"],
  "m/s": ["meters/second"],
  µA: ["uA"],
  µV: ["uV"],
  "µS/cm": ["uS/cm"],
  "µg/m³": ["ug/m3", "µg/m3", "ug/m³", "ug/m^3"],
  "mg/m³": ["mg/m3", "mg/m^3"],
  "W/m²": ["W/m2", "W/m^2"],
  "MJ/m²": ["MJ/m^2"],
  "m²": ["m^2"],
  "kg/m³": ["kg/m^3"],
  hPa: ["hectopascal"],
};

const SYMBOLS = new Map(Object.entries(WRITINGS).flatMap(([symbol, names]) => names.map((name) => [name, symbol])));

/** Return the symbol of a unit; one that has no other symbol is returned as it is. */
export function unitSymbol(unit: string): string {
  return SYMBOLS.get(unit) ?? unit;
}

/** Return whether a text is a unit, in any writing. */
export function isKnownUnit(text: string): boolean {
  return UNITS.has(text) || SYMBOLS.has(text);
}
