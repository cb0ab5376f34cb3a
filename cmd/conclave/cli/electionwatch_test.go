//go:build linux

package cli_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// told is a line of a watch.
type told struct{ Token, Revision string }

// A witness is a running `election watch`.
type witness struct {
	cmd   *exec.Cmd
	mu    sync.Mutex
	terms []told
}

func (h *house) watch(name string) *witness {
	h.t.Helper()
	w := &witness{cmd: h.command("election", "watch", name, "-o", "json")}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	h.start(w.cmd)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var line told
			if json.Unmarshal(lines.Bytes(), &line) == nil {
				w.mu.Lock()
				w.terms = append(w.terms, line)
				w.mu.Unlock()
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	h.t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		<-done
	})
	return w
}

// seen returns the lines, and how often each term is among them.
func (w *witness) seen() (lines []told, terms map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	terms = make(map[string]int)
	for _, line := range w.terms {
		if line.Token != "" {
			terms[line.Token]++
		}
	}
	return append([]told(nil), w.terms...), terms
}

// until waits until so many terms were told, and a vacancy last, or not.
func (w *witness) until(t *testing.T, terms int, vacant bool) {
	t.Helper()
	eventually(t, "a line of the watch", func() bool {
		lines, all := w.seen()
		return len(lines) > 0 && len(all) == terms && (lines[len(lines)-1].Token == "") == vacant
	})
}

// Who watches sees each term once, also those that come after the host, or etcd, was
// away.
func TestElectionWatchGoesOn(t *testing.T) { bothWays(t, electionWatchGoesOn) }

func electionWatchGoesOn(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	w := h.watch("boss")
	w.until(t, 0, true)
	p := newPolity(h, "boss --ttl 1h", 2)
	first := p.leader(0)
	w.until(t, 1, false)
	c := h.client()
	both := func() bool { _, sessions := left(t, c); return sessions == 2 }
	eventually(t, "both in line", both)
	h.restart()
	eventually(t, "both in line", both)
	h.signal(p.run[first.wrapper], syscall.SIGTERM)
	second := p.leader(first.token)
	w.until(t, 2, false)
	h.signal(p.run[second.wrapper], syscall.SIGTERM)
	w.until(t, 2, true)
	lines, terms := w.seen()
	for token, n := range terms {
		if n != 1 {
			t.Errorf("the term %s was told %d times: %+v", token, n, lines)
		}
	}
	for _, line := range lines {
		if line.Revision == "" {
			t.Errorf("a line without a revision: %+v", lines)
		}
	}
}
