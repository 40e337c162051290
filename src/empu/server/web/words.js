// The page's words, in the two languages that it speaks.

export const WORDS = {
  en: {
    skip: "To the question", signinHelp: "Open the link that “empu serve” printed, or give your key.", key: "Key",
    signin: "Sign in", signout: "Sign out", fresh: "New conversation", language: "Language", theme: "Light or dark",
    conversations: "Conversations", model: "Model", settings: "Settings", system: "System prompt",
    temperature: "Temperature", dialogue: "Conversation", ask: "Ask something…", send: "Send", stop: "Stop",
    again: "Answer again", copy: "Copy", remove: "Delete", close: "Close", untitled: "New conversation", you: "You",
    stopped: "stopped", sure: "sure", tokens: "tokens", rate: "tokens/s", lost: "The server cannot be reached.",
    full: "The browser has no room for more conversations; delete some.", greeting: "What shall we work on?",
    cut: "The answer reached its limit of tokens.",
  },
  id: {
    skip: "Ke pertanyaan", signinHelp: "Buka tautan yang dicetak “empu serve”, atau masukkan kunci Anda.", key: "Kunci",
    signin: "Masuk", signout: "Keluar", fresh: "Percakapan baru", language: "Bahasa", theme: "Terang atau gelap",
    conversations: "Percakapan", model: "Model", settings: "Pengaturan", system: "Perintah sistem",
    temperature: "Suhu", dialogue: "Percakapan", ask: "Tanyakan sesuatu…", send: "Kirim", stop: "Berhenti",
    again: "Jawab lagi", copy: "Salin", remove: "Hapus", close: "Tutup", untitled: "Percakapan baru", you: "Anda",
    stopped: "dihentikan", sure: "yakin", tokens: "token", rate: "token/dtk", lost: "Server tidak dapat dihubungi.",
    full: "Peramban tidak punya ruang lagi; hapus beberapa percakapan.", greeting: "Apa yang akan kita kerjakan?",
    cut: "Jawaban mencapai batas tokennya.",
  },
};
