//go:build linux

package cli_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopBound is the promise of two seconds, with room for a busy machine. What it
// guards against is etcd's own bound, seven seconds, and no end at all.
const stopBound = 6 * time.Second

// stopsInTime asks a process to end, and holds it to its promise.
func (h *house) stopsInTime(cmd *exec.Cmd, what string) {
	h.t.Helper()
	began := time.Now()
	h.signal(cmd, syscall.SIGTERM)
	if code := h.code(cmd); code != 0 {
		h.t.Errorf("%s: exit %d", what, code)
	}
	took := time.Since(began)
	h.t.Logf("%s: stopped in %v", what, took.Round(time.Millisecond))
	if took > stopBound {
		h.t.Errorf("%s: it took %v", what, took)
	}
}

// pids are those of the nodes that run.
func (h *house) pids() []int {
	h.t.Helper()
	var all []int
	for _, n := range h.list("dev", "ls") {
		if n.PID != 0 {
			all = append(all, n.PID)
		}
	}
	return all
}

// The nodes are children of their dev, and end with it when it is killed, also one that
// is paused.
func TestNodesEndWithTheirDev(t *testing.T) {
	h := newCluster(t)
	pids := h.pids()
	if len(pids) != 3 {
		t.Fatalf("nodes %v", pids)
	}
	for _, pid := range pids {
		if parent := parentOf(pid); parent != h.dev.Process.Pid {
			t.Errorf("node %d is a child of %d, not of dev", pid, parent)
		}
	}
	if err := syscall.Kill(pids[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.signal(h.dev, syscall.SIGKILL)
	_ = h.dev.Wait()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("the end of node %d", pid), func() bool { return gone(pid) })
	}
}

// A stop ends in time with a majority, without one, before there ever was one, and while
// a cluster to join does not answer.
func TestStopsInTime(t *testing.T) {
	t.Run("with a majority", func(t *testing.T) {
		h := newCluster(t)
		h.stopsInTime(h.dev, "three nodes")
	})
	t.Run("without a majority", func(t *testing.T) {
		h := newCluster(t)
		pids := h.pids()
		h.ok("dev", "kill", "1", "2")
		h.stopsInTime(h.dev, "one node of three")
		for _, pid := range pids {
			if !gone(pid) {
				t.Errorf("node %d is left", pid)
			}
		}
	})
	t.Run("before there was one", func(t *testing.T) {
		h := bare(t)
		one, two := freeAddr(t), freeAddr(t)
		cmd := h.command("serve", "--config", h.file("one.yaml", fmt.Sprintf("name: one\ndata_dir: %s\napi: {listen: '127.0.0.1:0'}\n"+
			"etcd: {listen_client: '127.0.0.1:0', initial_cluster: {one: 'http://%s', two: 'http://%s'}}\n", t.TempDir(), one, two)))
		h.start(cmd)
		eventually(t, "a member that waits", func() bool { return listens(one) })
		h.stopsInTime(cmd, "a founder that waits for the others")
	})
	t.Run("while it waits to join", func(t *testing.T) {
		h := bare(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			if c, err := l.Accept(); err == nil { // and says nothing
				defer func() { _ = c.Close() }()
			}
		}()
		cmd := h.command("serve", "--join", "http://"+l.Addr().String(), "--data-dir", t.TempDir(), "--api-addr", "127.0.0.1:0",
			"--client-addr", "127.0.0.1:0", "--peer-addr", freeAddr(t))
		h.start(cmd)
		<-asked
		h.stopsInTime(cmd, "a host that waits to join")
	})
}

// bare is a house without a dev.
func bare(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, cache: t.TempDir()}
	h.env = append(os.Environ(), "XDG_CACHE_HOME="+h.cache, "XDG_RUNTIME_DIR=", "HOME="+h.cache)
	return h
}

func (h *house) file(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.cache, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := lowAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// Three hosts whose configuration names the same members found a cluster, in any order. One
// whose data are lost does not found it again.
func TestServeFoundsACluster(t *testing.T) {
	h := bare(t)
	names := []string{"one", "two", "three"}
	var founders []string
	for _, name := range names {
		founders = append(founders, fmt.Sprintf("%s: 'http://%s'", name, freeAddr(t)))
	}
	serve := func(name, dir string) (*exec.Cmd, *bufio.Reader) {
		cmd := h.command("serve", "--data-dir", dir, "--config", h.file(name+".yaml", fmt.Sprintf(
			"name: %s\napi: {listen: '127.0.0.1:0'}\netcd: {listen_client: '127.0.0.1:0', initial_cluster: {%s}}\n", name, strings.Join(founders, ", "))))
		cmd.Stderr = nil
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		h.start(cmd)
		return cmd, bufio.NewReader(out)
	}
	var cmds []*exec.Cmd
	var apis []string
	var outs []*bufio.Reader
	for _, name := range names {
		cmd, out := serve(name, filepath.Join(h.cache, name))
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	for _, out := range outs {
		line, err := out.ReadString('\n')
		m := readyLine.FindStringSubmatch(line)
		if err != nil || m == nil {
			t.Fatalf("serve printed %q, %v", line, err)
		}
		apis = append(apis, m[1])
	}
	h.env = append(h.env, "CONCLAVE_API="+strings.Join(apis, ","))
	healthy := 0
	for _, m := range h.list("member", "ls") {
		if m.State == "healthy" {
			healthy++
		}
	}
	if healthy != 3 {
		t.Errorf("%d of 3 are healthy", healthy)
	}
	h.stopsInTime(cmds[1], "a founder")
	lost, _ := serve("two", t.TempDir())
	if code := h.code(lost); code != 1 {
		t.Errorf("a founder whose data are lost: exit %d", code)
	}
	back, out := serve("two", filepath.Join(h.cache, "two"))
	if line, err := out.ReadString('\n'); err != nil || !readyLine.MatchString(line) {
		t.Errorf("a founder that comes back printed %q, %v", line, err)
	}
	h.stopsInTime(back, "a founder that came back")
}
