// The few words our widgets show, by the language of the interface.

const TEXTS = {
  en: {
    window: "Window",
    told: "starts from the last",
    seam: "motion at the seam",
    turned: "motion turned",
    color: "color moved",
    nothing: "No window: it must be longer than what it knows.",
    windows: (count, time) => `${count} window${count === 1 ? "" : "s"}, ${time}`,
    kept: (count) => `; ${count} kept from an earlier run`,
  },
  zh: {
    window: "窗口",
    told: "已知前一段末尾",
    seam: "接缝处运动",
    turned: "运动转向",
    color: "颜色偏移",
    nothing: "没有窗口：窗口长度必须大于已知部分。",
    windows: (count, time) => `${count} 个窗口，共 ${time}`,
    kept: (count) => `；其中 ${count} 个沿用之前运行的结果`,
  },
};

export function texts(locale) {
  return TEXTS[locale] ?? TEXTS[String(locale).split("-")[0]] ?? TEXTS.en;
}
