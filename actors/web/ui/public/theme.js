// Before the first paint, so that the page does not flash.
(function () {
  var stored = null;
  try {
    stored = localStorage.getItem('benocs-theme');
  } catch (error) {
    stored = null;
  }
  var light = stored ? stored === 'light' : window.matchMedia('(prefers-color-scheme: light)').matches;
  document.documentElement.dataset.theme = light ? 'light' : 'dark';
})();
