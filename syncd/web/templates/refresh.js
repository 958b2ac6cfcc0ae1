// Every five seconds what lives in the page is fetched again and put in place, unless somebody is busy with it.
const live = () => document.getElementById("live");
const busy = () => document.hidden || !getSelection().isCollapsed || live().contains(document.activeElement);
async function refresh() {
  if (busy()) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html", "X-Only": "live" }, signal: AbortSignal.timeout(4000) });
    if (answer.redirected) return location.reload();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (fresh && !busy() && fresh.innerHTML !== live().innerHTML) live().replaceWith(document.adoptNode(fresh));
    document.body.classList.remove("away");
  } catch {
    document.body.classList.add("away");
  }
}
setInterval(refresh, 5000);
document.addEventListener("visibilitychange", refresh);
