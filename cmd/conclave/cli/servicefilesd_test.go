//go:build linux

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A file of targets follows the services, and stays as it is while nobody knows.
func TestServiceFileSDFollows(t *testing.T) {
	bothWays(t, func(t *testing.T, direct bool) {
		h := newHouse(t, direct)
		file := filepath.Join(t.TempDir(), "targets.json")
		targets := func() string {
			b, err := os.ReadFile(file)
			if err != nil {
				return ""
			}
			return string(b)
		}
		sd := h.command("service", "file-sd", "--output", file)
		h.start(sd)
		eventually(t, "no targets", func() bool { return targets() == "[]\n" })
		web := h.under("service register web --addr h:1 --ttl 1h", "exec sleep 600")
		eventually(t, "a target", func() bool { return strings.Contains(targets(), `"h:1"`) })
		was, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		h.restart()
		api := h.under("service register api --addr h:2 --ttl 1h", "exec sleep 600")
		eventually(t, "two targets", func() bool { return strings.Contains(targets(), `"h:1"`) && strings.Contains(targets(), `"h:2"`) })
		if now, err := os.Stat(file); err != nil || os.SameFile(was, now) || now.Mode().Perm() != 0o644 {
			t.Errorf("the file was not replaced: %v, %v", now, err)
		}
		h.signal(api, syscall.SIGTERM)
		eventually(t, "one target", func() bool { return strings.Contains(targets(), `"h:1"`) && !strings.Contains(targets(), `"h:2"`) })
		h.signal(h.dev, syscall.SIGKILL)
		_ = h.dev.Wait()
		h.signal(web, syscall.SIGKILL)
		_ = web.Wait()
		good := targets()
		h.signal(sd, syscall.SIGTERM)
		if code := h.code(sd); code != 0 || targets() != good || good == "[]\n" {
			t.Errorf("exit code %d; the file says %q, and was %q", code, targets(), good)
		}
		// Whoever begins now knows nothing, and empties nothing.
		late := h.command("service", "file-sd", "--output", file)
		h.start(late)
		if code := h.code(late); code != 6 || targets() != good {
			t.Errorf("exit code %d; the file says %q, and was %q", code, targets(), good)
		}
		names, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*"))
		if err != nil || len(names) != 0 {
			t.Errorf("left beside it: %q, %v", names, err)
		}
	})
}
