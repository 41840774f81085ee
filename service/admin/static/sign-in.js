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

function read(status, refusal) {
  if (refusal === "Login failed") return "The username or the password is not right.";
  if (refusal === "MFA failed") {
    return "The code is not right, or was used before. Wait for the next code of the app, or enter a recovery code.";
  }
  return status === 429 ? refusal || "Too many attempts. Wait for 5 minutes." : "";  // Piccolo's own has no words
}

document.addEventListener("answer", ({ detail: { path, status, refusal } }) => {
  if (path.endsWith("/public/login/")) tell(read(status, refusal));
});
