//go:build linux

package cli_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A house is a `conclave dev` and commands that find it.
type house struct {
	t     *testing.T
	env   []string
	dev   *exec.Cmd
	api   string
	url   string // of etcd
	cache string
}

// bothWays runs a test through a host, and straight on etcd, beside other tests.
func bothWays(t *testing.T, test func(t *testing.T, direct bool)) {
	t.Helper()
	t.Parallel()
	for name, direct := range map[string]bool{"host": false, "etcd": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, direct)
		})
	}
}

// newHouse starts a dev. Commands find its host; with direct they use its etcd.
func newHouse(t *testing.T, direct bool) *house {
	t.Helper()
	h := &house{t: t, cache: t.TempDir()}
	h.env = append(os.Environ(), "XDG_CACHE_HOME="+h.cache, "XDG_RUNTIME_DIR=", "HOME="+h.cache)
	h.api, h.url = "http://"+freeAddr(t), "http://"+freeAddr(t)
	h.devAgain()
	if direct {
		h.env = append(h.env, "CONCLAVE_ENDPOINTS="+h.url)
	}
	return h
}

// restart kills the dev and starts it again on the same addresses and data.
func (h *house) restart() {
	h.t.Helper()
	h.signal(h.dev, syscall.SIGKILL)
	_ = h.dev.Wait()
	h.devAgain()
}

// devAgain starts the dev on the house's addresses and data.
func (h *house) devAgain() {
	h.t.Helper()
	h.serve("dev", "--data-dir", filepath.Join(h.cache, "dev"), "--peer-addr", "127.0.0.1:0",
		"--api-addr", strings.TrimPrefix(h.api, "http://"), "--client-addr", strings.TrimPrefix(h.url, "http://"))
}

// serve starts a dev and waits until it and its recorder are at work.
func (h *house) serve(args ...string) {
	t := h.t
	t.Helper()
	h.dev = h.command(args...)
	h.dev.Stderr = nil
	out, err := h.dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.start(h.dev)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	m := readyLine.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("dev printed %q", line)
	}
	h.api, h.url = m[1], m[2]
	c := h.client()
	eventually(t, "the recorder at work", func() bool {
		resp, err := c.Get(t.Context(), lockKeys+"_", clientv3.WithPrefix())
		return err == nil && len(resp.Kvs) > 0
	})
}

func (h *house) command(args ...string) *exec.Cmd {
	h.t.Helper()
	path, err := exec.LookPath("conclave")
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = h.env
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts cmd and ends it, at the latest, with the test.
func (h *house) start(cmd *exec.Cmd) {
	h.t.Helper()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// run starts `conclave lock run` on a shell script.
func (h *house) run(flags, script string) *exec.Cmd { return h.under("lock run "+flags, script) }

// under starts a conclave command with flags on a shell script.
func (h *house) under(flags, script string) *exec.Cmd {
	h.t.Helper()
	args := strings.Fields(flags)
	cmd := h.command(append(args, "--", "/bin/sh", "-c", script)...)
	h.start(cmd)
	return cmd
}

// code waits for the end of cmd and returns its exit code.
func (h *house) code(cmd *exec.Cmd) int {
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

func (h *house) signal(cmd *exec.Cmd, sig syscall.Signal) {
	h.t.Helper()
	if err := cmd.Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) client() *clientv3.Client {
	h.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(h.url, ","), DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

// left returns how many keys of recipes there are, and how many sessions. What the
// host's recipes keep for themselves does not count.
func left(t *testing.T, c *clientv3.Client) (keys, sessions int) {
	t.Helper()
	resp, err := c.Get(t.Context(), allKeys, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		if !ofHost(kv.Key) {
			keys++
		}
	}
	l, err := c.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, lease := range l.Leases {
		ttl, err := c.TimeToLive(t.Context(), lease.ID, clientv3.WithAttachedKeys())
		if err != nil {
			t.Fatal(err)
		}
		// Those of recipes have the usual TTL, and none of the tests' do.
		own := ttl.GrantedTTL == 15 && !slices.ContainsFunc(ttl.Keys, func(key []byte) bool { return !ofHost(key) })
		if ttl.TTL > 0 && !own {
			sessions++
		}
	}
	return keys, sessions
}

// ofHost reports whether a key is one that a recipe keeps for itself.
func ofHost(key []byte) bool {
	rest, recipes := strings.CutPrefix(string(key), allKeys)
	_, name, _ := strings.Cut(rest, "/")
	return recipes && strings.HasPrefix(name, "_")
}

const (
	allKeys  = "/conclave/default/"
	lockKeys = allKeys + "lock/"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not seen in %s: %s", patience, what)
		}
	}
}

// gone reports whether the process has ended, whether or not anybody waited for it.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// pidIn waits until the file holds a number that ends its line.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	var pid int
	eventually(t, "a number in "+filepath.Base(file), func() bool {
		b, err := os.ReadFile(file)
		if err != nil || !bytes.HasSuffix(b, []byte("\n")) {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	return pid
}
