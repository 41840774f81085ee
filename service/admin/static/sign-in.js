// Tells an operator why a sign-in was refused, and how long to wait before the next one. Piccolo Admin only says that
// there was a problem.

function tell(text) {
  document.querySelector("[data-wait]")?.remove();
  if (!text) return;
  const told = document.createElement("p");
  told.dataset.wait = "";
  told.role = "alert";
  told.textContent = text;
  document.querySelector("#login form")?.after(told);
}

function read(status, text) {
  if (/"Login failed"/.test(text)) return "The username or the password is not right.";
  if (status !== 429) return "";
  return JSON.parse(text).detail ?? "Too many attempts. Wait for 5 minutes.";  // Piccolo's own has none
}

document.addEventListener("answer", ({ detail: { path, status, text } }) => {
  if (path.endsWith("/public/login/")) tell(read(status, text));
});
