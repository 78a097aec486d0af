// Messages on a stream of bytes, as the gateway writes them: a length (four bytes, the highest first) and the text. Pure.

/** Set in the length that opens a farewell; its low 16 bits are the close code, the rest the length of the reason. */
const FAREWELL = 0x8000_0000;

/** The largest message, bytes: what the gateway lets wait for one peer. */
const LARGEST = 50 * 1024 * 1024;

export type Heard = { text: string } | { farewell: string };

/** One message as bytes. */
export function written(text: string): Uint8Array<ArrayBuffer> {
  const body = new TextEncoder().encode(text);
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length);
  bytes.set(body, 4);
  return bytes;
}

/** Puts messages together from pieces of any size. */
export class Frames {
  private pieces: Uint8Array[] = [];
  private size = 0;

  /** What has become whole with this piece. Throws at a length that no gateway sends. */
  push(piece: Uint8Array): Heard[] {
    this.pieces.push(piece);
    this.size += piece.length;
    const heard: Heard[] = [];
    for (;;) {
      const header = this.size < 4 ? null : this.header();
      if (header === null) return heard;
      const isFarewell = header >= FAREWELL;
      const length = isFarewell ? (header >>> 16) & 0x7fff : header;
      if (length > LARGEST) throw new Error(`a message of ${length} bytes, and ${LARGEST} fit`);
      if (this.size < 4 + length) return heard;
      const text = new TextDecoder().decode(this.take(4 + length).subarray(4));
      heard.push(isFarewell ? { farewell: text } : { text });
    }
  }

  private header(): number {
    const [first] = this.pieces;
    if (!first || first.length < 4) this.pieces = [this.joined()];
    const start = this.pieces[0] ?? new Uint8Array(4);
    return new DataView(start.buffer, start.byteOffset).getUint32(0);
  }

  private take(length: number): Uint8Array {
    const whole = this.joined();
    this.pieces = whole.length > length ? [whole.subarray(length)] : [];
    this.size -= length;
    return whole.subarray(0, length);
  }

  private joined(): Uint8Array {
    const [first] = this.pieces;
    if (first && this.pieces.length === 1) return first;
    const whole = new Uint8Array(this.size);
    let at = 0;
    for (const piece of this.pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }
}
