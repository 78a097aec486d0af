// Why a command gave nothing, in the form that callers branch on.

export class Fault extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
    this.name = code;
  }

  /** What anything that was thrown means to a caller. */
  static of(thrown: unknown): Fault {
    if (thrown instanceof Fault) return thrown;
    const told = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
    return new Fault("UNAVAILABLE", told);
  }
}

/** The caller has gone, the deadline is over, or the owner stopped it. */
export function stopped(signal: AbortSignal): Fault {
  return signal.reason instanceof Fault ? signal.reason : new Fault("CANCELLED", "the call was called off");
}

/** The promise, or a fault as soon as the signal says so. */
export function unlessStopped<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  if (signal.aborted) return Promise.reject(stopped(signal));
  return new Promise((resolve, reject) => {
    const stop = () => reject(stopped(signal));
    signal.addEventListener("abort", stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

export function pause(signal: AbortSignal, milliseconds: number): Promise<void> {
  return unlessStopped(signal, new Promise((resolve) => setTimeout(resolve, milliseconds)));
}
