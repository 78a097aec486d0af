// What kind of device this is, in the words that gateways decide by. Pure: the browser's words come in.

export interface Platform {
  platform: string;
  deviceFamily: string;
}

/** Reads the user agent. A tablet of Apple's says that it is a Mac, and has a touch screen. */
export function platformOf(userAgent: string, touchPoints: number): Platform {
  if (/Android/i.test(userAgent)) return { platform: "android", deviceFamily: "Android" };
  if (/iPhone|iPod/.test(userAgent)) return { platform: "ios", deviceFamily: "iPhone" };
  if (/iPad/.test(userAgent) || (/Macintosh/.test(userAgent) && touchPoints > 1)) {
    return { platform: "ios", deviceFamily: "iPad" };
  }
  if (/Macintosh/.test(userAgent)) return { platform: "macos", deviceFamily: "Mac" };
  if (/Windows/.test(userAgent)) return { platform: "windows", deviceFamily: "Windows" };
  return { platform: "linux", deviceFamily: "Linux" };
}
