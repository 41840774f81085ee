// Follows the answers to the requests of Piccolo Admin: opens the page that one names in a header, where an operator has
// to set up a second factor, and tells the other scripts of each. It runs before any request is sent.

{
  // Why a request was refused, in words; else nothing
  const refusalOf = (text) => {
    try {
      const { detail } = JSON.parse(text);
      return typeof detail === "string" ? detail : "";
    } catch {
      return "";
    }
  };
  const { send } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.send = function (...given) {
    this.addEventListener("load", () => {
      const page = this.getResponseHeader(__SET_UP_HEADER__);
      if (page) location.assign(page);
      const text = ["", "text"].includes(this.responseType) ? this.responseText : "";  // a form may return a file
      const { pathname: path, search: query } = new URL(this.responseURL);
      const detail = { path, query, status: this.status, refusal: this.status >= 400 ? refusalOf(text) : "" };
      document.dispatchEvent(new CustomEvent("answer", { detail }));
    });
    return send.apply(this, given);
  };
}
