// Search over file://: browsers start no Worker from a file, so its script runs in a hidden frame.
(() => {
  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.frame = frame.contentWindow;
      this.frame.workerPost = data => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (typeof this.onmessage === "function") this.onmessage(event);
      };
      this.ready = new Promise(resolve => (this.frame.workerReady = resolve));
      this.frame.document.open();
      this.frame.document.write(`<!doctype html><body><script>
        postMessage = data => workerPost(data);
        importScripts = (...urls) => Promise.all(urls.map(url => new Promise((done, failed) => {
          const script = document.body.appendChild(document.createElement("script"));
          script.onload = done; script.onerror = failed; script.src = url;
        })));
      <\/script><script src="${url}" onload="workerReady()"><\/script>`);
      this.frame.document.close();
    }

    postMessage(data) {
      this.ready.then(() => this.frame.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.frameElement.remove();
    }
  }
  if (location.protocol === "file:") window.Worker = FrameWorker;
})();
