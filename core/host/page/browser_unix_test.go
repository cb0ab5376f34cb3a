package page_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/host/page"
)

// A browser is a real one, spoken to in its own protocol over a pipe. It has one
// page at a time.
type browser struct {
	tb      testing.TB
	to      *os.File
	from    *bufio.Reader
	ctx     context.Context
	session string
	next    int
	seen    []string // errors and refusals that the page caused
}

// launch starts a browser, or skips the test where there is none.
func launch(tb testing.TB) *browser {
	tb.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		tb.Skip("skipped: this machine has no Chromium")
	}
	theirIn, to, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	from, theirOut, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 2*time.Minute, errors.New("the browser took too long"))
	dir := tb.TempDir()
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--remote-debugging-pipe", "--user-data-dir="+dir, "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	_ = theirIn.Close()
	_ = theirOut.Close()
	var ended sync.WaitGroup
	ended.Go(func() {
		<-ctx.Done()
		_ = from.Close() // and a read that waits ends
	})
	tb.Cleanup(func() {
		_ = to.Close()
		cancel()
		_ = cmd.Wait()
		ended.Wait()
		// Its helpers were killed with it, but may be in the middle of a write.
		for end := time.Now().Add(10 * time.Second); os.RemoveAll(dir) != nil && time.Now().Before(end); {
			runtime.Gosched()
		}
	})
	return &browser{tb: tb, to: to, from: bufio.NewReader(from), ctx: ctx}
}

// open shows a page in a tab of its own, and reports to tb from now on.
func (b *browser) open(tb testing.TB, url string, width, height int, scheme string) {
	tb.Helper()
	b.tb, b.session, b.seen = tb, "", nil
	target := b.call("Target.createTarget", map[string]any{"url": "about:blank"})
	attached := b.call("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})
	b.session, _ = attached["sessionId"].(string)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}})
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
	for _, domain := range []string{"Log", "Runtime", "Page"} {
		b.call(domain+".enable", nil)
	}
	b.call("Page.navigate", map[string]any{"url": url})
	b.await(`document.readyState === "complete" && document.querySelector("#status").dataset.state === "ready"`)
}

// call sends a command and returns its result; what the page logs meanwhile is
// kept.
func (b *browser) call(method string, params map[string]any) map[string]any {
	b.tb.Helper()
	b.next++
	message := map[string]any{"id": b.next, "method": method, "params": params}
	if params == nil {
		message["params"] = map[string]any{}
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		b.tb.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.tb.Fatalf("%s: %v", method, err)
	}
	for {
		text, err := b.from.ReadBytes(0)
		if err != nil {
			b.tb.Fatalf("%s: %v: %v", method, err, context.Cause(b.ctx))
		}
		var answer struct {
			ID     int
			Method string
			Params json.RawMessage
			Result map[string]any
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(text[:len(text)-1], &answer); err != nil {
			b.tb.Fatal(err)
		}
		if answer.Method == "Log.entryAdded" || answer.Method == "Runtime.exceptionThrown" {
			b.seen = append(b.seen, string(answer.Params))
		}
		if answer.ID != b.next {
			continue
		}
		if answer.Error != nil {
			b.tb.Fatalf("%s: %s", method, answer.Error.Message)
		}
		return answer.Result
	}
}

// eval returns the value of an expression on the page.
func (b *browser) eval(expression string) any {
	b.tb.Helper()
	result := b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true})
	if e := result["exceptionDetails"]; e != nil {
		b.tb.Fatalf("%s: %v", expression, e)
	}
	value, _ := result["result"].(map[string]any)
	return value["value"]
}

// await waits until an expression holds.
func (b *browser) await(expression string) {
	b.tb.Helper()
	b.eval(`new Promise((done) => {
		const look = () => { let ok = false; try { ok = ` + expression + ` } catch {} ok ? done() : setTimeout(look, 10) };
		look();
	})`)
}

// clean fails the test if the page caused an error, or something that its policy
// refused.
func (b *browser) clean() {
	b.tb.Helper()
	for _, s := range b.seen {
		b.tb.Errorf("the page logged %s", s)
	}
}

// screenshot keeps a picture where CONCLAVE_SCREENSHOTS says, and returns its
// size.
func (b *browser) screenshot(name string) int {
	b.tb.Helper()
	shot := b.call("Page.captureScreenshot", map[string]any{"format": "png"})
	data, _ := shot["data"].(string)
	png, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		b.tb.Fatal(err)
	}
	if dir := os.Getenv("CONCLAVE_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
			b.tb.Fatal(err)
		}
	}
	return len(png)
}

const (
	openMethod  = `document.getElementById("conclave.session.v1.SessionService.Open")`
	watchMethod = `document.getElementById("conclave.lock.v1.LockService.Watch")`
)

// TestBrowser looks at the page as people do.
func TestBrowser(t *testing.T) {
	s := serve(t, services)
	b := launch(t)
	t.Run("call", func(t *testing.T) {
		b.open(t, s.URL+page.Path+"#conclave.session.v1.SessionService.Open", 1280, 900, "light")
		b.calls()
	})
	t.Run("watch", func(t *testing.T) {
		b.open(t, s.URL+page.Path+"#conclave.lock.v1.LockService.Watch", 1280, 900, "dark")
		b.watches()
	})
	t.Run("filter", func(t *testing.T) {
		b.open(t, s.URL+page.Path, 1280, 900, "light")
		b.filters()
	})
	t.Run("token", func(t *testing.T) {
		b.open(t, s.URL+page.Path+"#conclave.lock.v1.LockService.Why", 1280, 900, "light")
		b.asksForAToken()
	})
	t.Run("phone", func(t *testing.T) {
		b.open(t, s.URL+page.Path, 375, 812, "dark")
		b.fits()
	})
}

// calls fills a form, sends it, and finds the answer where it is wanted.
func (b *browser) calls() {
	b.tb.Helper()
	if b.eval(openMethod+".open") != true {
		b.tb.Error("the method that the address names is closed")
	}
	b.eval(openMethod + `.querySelector("[name=ttl]").value = "15s"`)
	b.eval(openMethod + `.querySelector("[name=owner]").value = "me"`)
	b.eval(openMethod + `.querySelector("form").requestSubmit()`)
	b.await(openMethod + `.querySelector(".result").dataset.ok === "yes"`)
	if got := fmt.Sprint(b.eval(openMethod + `.querySelector(".output").textContent`)); !strings.Contains(got, `"sessionId": "s-17"`) {
		b.tb.Errorf("the answer is shown as %q", got)
	}
	if got := b.eval(`document.querySelector("[id='conclave.lock.v1.LockService.Acquire.sessionId']").value`); got != "s-17" {
		b.tb.Errorf("the session id is %v in Acquire", got)
	}
	b.eval(openMethod + `.querySelector("[name=ttl]").value = "soon"`)
	b.screenshot("open")
	b.clean()
	b.eval(openMethod + `.querySelector("form").requestSubmit()`)
	b.await(openMethod + `.querySelector(".result").dataset.ok === "no"`)
	if got := fmt.Sprint(b.eval(openMethod + `.querySelector(".result").textContent`)); !strings.HasPrefix(got, "400: invalid_request: {ttl:soon") {
		b.tb.Errorf("the error is shown as %q", got)
	}
}

// asksForAToken is refused, and let in with the token that the page then asks for.
func (b *browser) asksForAToken() {
	b.tb.Helper()
	const (
		why   = `document.getElementById("conclave.lock.v1.LockService.Why")`
		field = `document.getElementById("caller-token")`
	)
	if b.eval(field+`.offsetParent`) != nil {
		b.tb.Error("the page asks for a token before anybody wants one")
	}
	b.eval(why + `.querySelector("form").requestSubmit()`)
	b.await(why + `.querySelector(".result").textContent.startsWith("401: unauthenticated")`)
	b.await(`document.activeElement === ` + field)
	b.screenshot("token")
	b.eval(field + `.value = "secret"`)
	b.eval(why + `.querySelector("form").requestSubmit()`)
	b.await(why + `.querySelector(".result").dataset.ok === "yes"`)
}

// watches follows a stream and stops it.
func (b *browser) watches() {
	b.tb.Helper()
	b.eval(watchMethod + `.querySelector("form").requestSubmit()`)
	b.await(watchMethod + `.querySelector(".result").textContent === "3 received, live"`)
	if got := fmt.Sprint(b.eval(watchMethod + `.querySelector(".output").textContent`)); !strings.HasSuffix(got, `{"name":"ledger <b>2</b>"}`) {
		b.tb.Errorf("the stream is shown as %q", got)
	}
	b.screenshot("watch-dark")
	b.eval(watchMethod + `.querySelector(".stop").click()`)
	b.await(watchMethod + `.querySelector(".result").textContent === "Stopped."`)
	b.clean()
}

// filters leaves what matches, and says when nothing does.
func (b *browser) filters() {
	b.tb.Helper()
	b.screenshot("all")
	shown := `[...document.querySelectorAll(".method")].filter((m) => m.offsetParent).map((m) => m.id).join()`
	filter := func(text string) {
		b.eval(fmt.Sprintf(`{ const f = document.getElementById("filter"); f.value = %q; f.dispatchEvent(new Event("input")) }`, text))
	}
	filter("lock force")
	if got := b.eval(shown); got != "conclave.lock.v1.LockService.ForceRelease" {
		b.tb.Errorf("shown: %v", got)
	}
	filter("no such method")
	if got := b.eval(shown); got != "" || b.eval(`document.getElementById("nothing").hidden`) != false {
		b.tb.Errorf("shown: %v", got)
	}
	b.clean()
}

// fits checks that the page fits a narrow screen without scrolling sideways, open and closed, and
// every control has a name.
func (b *browser) fits() {
	b.tb.Helper()
	b.screenshot("phone-closed")
	b.eval(`document.querySelectorAll("details.method").forEach((d) => { d.open = true })`)
	b.eval(`document.getElementById("conclave.lock.v1.LockService.Acquire").scrollIntoView()`)
	b.screenshot("phone-open")
	if got := b.eval(`document.documentElement.scrollWidth`); got != float64(375) {
		b.tb.Errorf("the page is %v wide on a screen of 375", got)
	}
	wide := `[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth && !e.closest(".scroll")).map((e) => e.className).join()`
	if got := b.eval(wide); got != "" {
		b.tb.Errorf("beyond the right edge: %v", got)
	}
	unnamed := b.eval(`[...document.querySelectorAll("input, select, textarea")].filter((e) => !e.labels.length || !e.labels[0].textContent.trim()).map((e) => e.id).join()`)
	if unnamed != "" {
		b.tb.Errorf("without a label: %v", unnamed)
	}
	twice := b.eval(`{ const ids = [...document.querySelectorAll("[id]")].map((e) => e.id); ids.filter((id, i) => ids.indexOf(id) !== i).join() }`)
	if twice != "" {
		b.tb.Errorf("ids that come twice: %v", twice)
	}
	b.clean()
}
