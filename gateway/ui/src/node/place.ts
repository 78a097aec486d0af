// Where this phone is.

import type { Call, Command } from "./command.ts";
import { Fault, unlessStopped } from "./fault.ts";
import { number, words } from "./params.ts";

function ask(options: PositionOptions): Promise<GeolocationPosition> {
  return new Promise((resolve, reject) => navigator.geolocation.getCurrentPosition(resolve, reject, options));
}

function fault(error: GeolocationPositionError): Fault {
  switch (error.code) {
    case GeolocationPositionError.PERMISSION_DENIED:
      return new Fault("LOCATION_PERMISSION_REQUIRED", "allow the location for this page in the browser's settings");
    case GeolocationPositionError.TIMEOUT:
      return new Fault("LOCATION_TIMEOUT", "the phone did not find out in time where it is");
    default:
      return new Fault("LOCATION_UNAVAILABLE", "the phone cannot find out where it is; is its location switched on?");
  }
}

async function locate(call: Call): Promise<unknown> {
  const accuracy = words(call.params, "desiredAccuracy", ["balanced", "coarse", "precise"]);
  const options = {
    enableHighAccuracy: accuracy === "precise",
    maximumAge: number(call.params, "maxAgeMs", { least: 0, most: 86_400_000, usual: 0 }),
    timeout: number(call.params, "timeoutMs", { least: 1, most: 120_000, usual: 10_000 }),
  };
  const found = await unlessStopped(call.signal, ask(options)).catch((thrown: unknown) => {
    throw thrown instanceof GeolocationPositionError ? fault(thrown) : thrown;
  });
  const { coords } = found;
  const known = (value: number | null) => (value === null || Number.isNaN(value) ? undefined : value);
  return {
    lat: coords.latitude,
    lon: coords.longitude,
    accuracyMeters: coords.accuracy,
    altitudeMeters: known(coords.altitude),
    speedMps: known(coords.speed),
    headingDeg: known(coords.heading),
    timestamp: new Date(found.timestamp).toISOString(),
    isPrecise: coords.accuracy <= 100,
    source: "unknown",
  };
}

export const PLACE: Command[] = [
  {
    name: "location.get",
    cap: "location",
    group: "Location",
    label: "Find out where this phone is",
    use: "Reading the location",
    denied: "LOCATION_DISABLED",
    async prepare() {
      await ask({ timeout: 60_000, maximumAge: Infinity }).catch((error: GeolocationPositionError) => {
        if (error.code === GeolocationPositionError.PERMISSION_DENIED) throw fault(error);
      });
    },
    run: locate,
  },
];
