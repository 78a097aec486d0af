// What the page keeps between visits: one small table in IndexedDB. The only place that names it.

const NAME = "atoll-node";
const TABLE = "kept";

export type Key = "identity" | "token" | "code" | "consent" | "name" | "platform" | "log" | "awake" | "paused";

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("no storage"));
    request.onblocked = () => reject(new Error("another tab of this page is being upgraded; close it"));
  });
}

async function act<T>(mode: IDBTransactionMode, work: (table: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await open();
  try {
    return await new Promise<T>((resolve, reject) => {
      const transaction = database.transaction(TABLE, mode, { durability: "strict" });
      const request = work(transaction.objectStore(TABLE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error ?? new Error("the storage refused"));
    });
  } finally {
    database.close();
  }
}

export function read(key: Key): Promise<unknown> {
  return act("readonly", (table) => table.get(key));
}

export async function write(key: Key, value: unknown): Promise<void> {
  await act("readwrite", (table) => table.put(value, key));
}

export async function forget(key: Key): Promise<void> {
  await act("readwrite", (table) => table.delete(key));
}

export async function forgetAll(): Promise<void> {
  await act("readwrite", (table) => table.clear());
}
