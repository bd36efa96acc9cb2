// Formats sizes and times for people.

const MINUTE = 60;
const HOUR = 3600;

/** 1234567 -> "1 MB": in powers of 1000, as `azaion-loader` writes them. */
export function bytes(count) {
  let size = count;
  for (const unit of ["B", "kB", "MB"]) {
    if (size < 1000) {
      return `${size.toFixed(0)} ${unit}`;
    }
    size /= 1000;
  }
  return `${size.toFixed(1)} GB`;
}

/** Bytes per second; a dash while nothing moves. */
export function rate(bytesPerSecond) {
  return bytesPerSecond ? `${bytes(bytesPerSecond)}/s` : "–";
}

/** 0.42 -> "0.4 s", 75 -> "1 min 15 s", 7300 -> "2 h 1 min"; a dash for null. */
export function duration(seconds) {
  if (seconds === null) {
    return "–";
  }
  if (seconds < 0.1) {
    return "< 0.1 s";
  }
  if (seconds < 10) {
    return `${seconds.toFixed(1)} s`;
  }
  const whole = Math.round(seconds);
  if (whole < MINUTE) {
    return `${whole} s`;
  }
  if (whole < HOUR) {
    return `${Math.floor(whole / MINUTE)} min ${whole % MINUTE} s`;
  }
  return `${Math.floor(whole / HOUR)} h ${Math.floor((whole % HOUR) / MINUTE)} min`;
}

/** Like `duration`, for estimates, which have no tenths of a second. */
export function guess(seconds) {
  return seconds !== null && seconds < 10 ? "a few seconds" : duration(seconds);
}

/** RFC 3339 -> date and time in the reader's own zone and language. */
export function moment(text) {
  return new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
