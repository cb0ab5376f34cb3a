//go:build linux

package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
)

const (
	costSessions = 10_000
	costKeys     = 100_000
	costWindow   = 20 * time.Second // over which processor time is taken
	clockTicks   = 100              // of /proc/PID/stat in a second, on every Linux that Go runs on
)

// BenchmarkCost reports what a host's process costs: by itself, with sessions that
// are kept alive, and with keys. Run it alone on the machine:
//
//	go test -run '^$' -bench Cost -benchtime 1x ./cmd/conclave/cli
func BenchmarkCost(b *testing.B) {
	for b.Loop() {
		h := startCostly(b)
		h.report("idle")
		b.Run("sessions", func(b *testing.B) { h.withSessions(b, costSessions) })
		b.Run("keys", func(b *testing.B) { h.withKeys(b, costKeys) })
	}
}

// A costly is a host in a process of its own.
type costly struct {
	b         *testing.B
	pid       int
	api, etcd string
}

func startCostly(b *testing.B) *costly {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	// testscript chooses the program by the name of the binary.
	link := filepath.Join(b.TempDir(), "conclave")
	if err := os.Symlink(exe, link); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(link, append(freeDev(), "--data-dir", b.TempDir())...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	m := readyLine.FindStringSubmatch(line)
	if err != nil || m == nil {
		b.Fatalf("dev printed %q: %v", line, err)
	}
	return &costly{b, cmd.Process.Pid, m[1], m[2]}
}

// report prints memory and the share of one processor over a while.
func (h *costly) report(what string) {
	before := h.cpu()
	began := time.Now()
	<-time.After(costWindow)
	share := (h.cpu() - before).Seconds() / time.Since(began).Seconds()
	fmt.Printf("%s: %d MiB resident, %.1f %% of a processor\n", what, h.rss()>>20, 100*share)
}

func (h *costly) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid))
	if err != nil {
		h.b.Fatal(err)
	}
	// The name in parentheses may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / clockTicks
}

func (h *costly) rss() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", h.pid))
	if err != nil {
		h.b.Fatal(err)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize()
}

func (h *costly) withSessions(b *testing.B, n int) {
	c, err := remote.New(remote.Config{URLs: []string{h.api}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	sessions := make([]*remote.Session, n)
	abreast(b, n, func(i int) (err error) {
		sessions[i], err = c.Open(ctx, remote.SessionConfig{TTL: 15 * time.Second, Owner: "cost"})
		return err
	})
	h.report(fmt.Sprintf("%d sessions of 15s", n))
	abreast(b, n, func(i int) error { return sessions[i].Close(ctx) })
}

func (h *costly) withKeys(b *testing.B, n int) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{h.etcd}, Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	value := strings.Repeat("x", 100)
	abreast(b, n, func(i int) error {
		_, err := c.Put(ctx, fmt.Sprintf("/cost/%08d", i), value)
		return err
	})
	st, err := c.Status(ctx, h.etcd)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("%d keys of 100 bytes: a database of %d MiB\n", n, st.DbSize>>20)
	h.report(fmt.Sprintf("%d keys", n))
}

// abreast does something n times, 256 at one time.
func abreast(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	var all sync.WaitGroup
	next := make(chan int)
	for range 256 {
		all.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}
