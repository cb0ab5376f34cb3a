//go:build linux

package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// soaking asks for the sizes that take minutes.
func soaking() bool { return os.Getenv("CONCLAVE_SOAK") == "1" }

// newCluster starts a dev of three nodes. Commands find its hosts.
func newCluster(t *testing.T) *house {
	t.Helper()
	h := bare(t)
	h.serve(append(freeDev(), "--nodes", "3")...)
	return h
}

// A member is what dev ls and member ls say of a node.
type member struct {
	Name, Role, State string
	PID               int
}

func (h *house) list(args ...string) []member {
	h.t.Helper()
	var all []member
	if err := json.Unmarshal([]byte(h.ok(append(args, "-o", "json")...)), &all); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// leader returns the name of the node that leads.
func (h *house) leader() string {
	h.t.Helper()
	var name string
	eventually(h.t, "a leader", func() bool {
		for _, m := range h.list("member", "ls") {
			if m.Role == "leader" {
				name = m.Name
			}
		}
		return name != ""
	})
	return name
}

// slay kills the process of a node from outside.
func (h *house) slay(name string) {
	h.t.Helper()
	for _, n := range h.list("dev", "ls") {
		if n.Name == name {
			if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
				h.t.Fatal(err)
			}
			return
		}
	}
	h.t.Fatalf("no node %s", name)
}

// An outage is the longest time between two writes that were acknowledged.
type outage struct {
	mu    sync.Mutex
	last  time.Time
	worst time.Duration
}

func (o *outage) wrote() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if !o.last.IsZero() {
		o.worst = max(o.worst, now.Sub(o.last))
	}
	o.last = now
}

// reset returns the worst so far, and begins anew.
func (o *outage) reset() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	worst := o.worst
	o.worst = 0
	return worst
}

// write writes again and again until ctx ends.
func write(ctx context.Context, c *clientv3.Client, o *outage) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		if _, err := c.Put(try, "outage", "x"); err == nil {
			o.wrote()
		}
		cancel()
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// load is clients at work on a cluster, half of them through hosts, half on etcd.
type load struct {
	t       *testing.T
	inside  []atomic.Int32 // how many own each name
	done    atomic.Int64
	slowest atomic.Int64
	stop    context.CancelFunc
	all     sync.WaitGroup
}

const contended = 5 // names that the clients of a load share

func (h *house) load(clients int) *load {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: h.t, inside: make([]atomic.Int32, contended), stop: cancel}
	for i := range clients {
		l.all.Go(func() {
			if i%2 == 0 {
				l.throughHosts(ctx, h, i)
			} else {
				l.onEtcd(ctx, h, i)
			}
		})
	}
	h.t.Cleanup(l.end)
	return l
}

// end waits for the clients.
func (l *load) end() {
	l.stop()
	l.all.Wait()
}

// turn is one client's ownership of a name.
func (l *load) turn(name int, began time.Time) {
	if n := l.inside[name].Add(1); n != 1 {
		l.t.Errorf("%d own name %d", n, name)
	}
	l.inside[name].Add(-1)
	l.done.Add(1)
	took, was := int64(time.Since(began)), l.slowest.Load()
	for took > was && !l.slowest.CompareAndSwap(was, took) {
		was = l.slowest.Load()
	}
}

// throughHosts is a client that uses hosts as the commands do, and keeps a lock of its
// own all the time.
func (l *load) throughHosts(ctx context.Context, h *house, i int) {
	c, err := remote.New(remote.Config{URLs: strings.Split(h.api, ",")})
	if err != nil {
		l.t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	s, err := c.Open(ctx, remote.SessionConfig{TTL: 15 * time.Second, Owner: fmt.Sprintf("client-%d", i), Namespace: "default"})
	if err != nil {
		l.t.Errorf("client %d: open: %v", i, err)
		return
	}
	defer func() { _ = s.Close(context.Background()) }()
	own, err := s.Acquire(ctx, &lockv1.AcquireRequest{Name: fmt.Sprintf("own-%d", i)})
	if err != nil {
		l.t.Errorf("client %d: its own lock: %v", i, err)
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		name, began := n%contended, time.Now()
		held, err := s.Acquire(ctx, &lockv1.AcquireRequest{Name: fmt.Sprintf("shared-%d", name)})
		if err != nil {
			if ctx.Err() == nil {
				l.t.Errorf("client %d through hosts: acquire: %v", i, err)
			}
			break
		}
		l.turn(name, began)
		if err := held.Release(context.Background()); err != nil {
			l.t.Errorf("client %d through hosts: release: %v", i, err)
		}
	}
	if err := own.Context().Err(); err != nil {
		l.t.Errorf("client %d through hosts lost its lock: %v", i, context.Cause(own.Context()))
	}
	if err := own.Release(context.Background()); err != nil {
		l.t.Errorf("client %d through hosts: its own lock: %v", i, err)
	}
}

// onEtcd is a client of the libraries.
func (l *load) onEtcd(ctx context.Context, h *house, i int) {
	c := h.client()
	s, err := core.NewSession(ctx, c, core.WithOwner(fmt.Sprintf("client-%d", i)))
	if err != nil {
		l.t.Errorf("client %d: session: %v", i, err)
		return
	}
	defer func() { _ = s.Close() }()
	own, err := lock.NewMutex(s, fmt.Sprintf("own-%d", i)).Lock(ctx)
	if err != nil {
		l.t.Errorf("client %d: its own lock: %v", i, err)
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		name, began := n%contended, time.Now()
		held, err := lock.NewMutex(s, fmt.Sprintf("shared-%d", name)).Lock(ctx)
		if err != nil {
			if ctx.Err() == nil {
				l.t.Errorf("client %d on etcd: lock: %v", i, err)
			}
			break
		}
		l.turn(name, began)
		if err := held.Unlock(); err != nil {
			l.t.Errorf("client %d on etcd: unlock: %v", i, err)
		}
	}
	if err := own.Context().Err(); err != nil {
		l.t.Errorf("client %d on etcd lost its lock: %v", i, context.Cause(own.Context()))
	}
	if err := own.Unlock(); err != nil {
		l.t.Errorf("client %d on etcd: its own lock: %v", i, err)
	}
}

// progress waits until every name was owned again.
func (l *load) progress(what string) {
	l.t.Helper()
	from := l.done.Load()
	eventually(l.t, what, func() bool { return l.done.Load() > from+2*contended })
}

// Hosts are restarted one after the other while clients work: no ownership is lost, and
// no call of a client that retries fails.
func TestRollingRestart(t *testing.T) {
	clients := 16
	if soaking() {
		clients = 50
	}
	h := newCluster(t)
	dir := t.TempDir()
	ready, end := filepath.Join(dir, "ready"), filepath.Join(dir, "end")
	owner := h.run("held --ttl 15s", "echo $$ > "+ready+"; until [ -e "+end+" ]; do sleep 0.05; done; exit 3")
	pid := pidIn(t, ready)
	l := h.load(clients)
	l.progress("clients at work")
	c, o := h.client(), new(outage)
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() { write(ctx, c, o) })
	// The leader first, which hands over; each of the others may lead when its turn comes.
	for _, name := range []string{h.leader(), "node1", "node2", "node3"} {
		o.reset()
		began := time.Now()
		h.ok("dev", "restart", name)
		l.progress("clients at work after the restart of " + name)
		t.Logf("restart of %s: %v, longest time without a write %v, %d turns so far", name, time.Since(began).Round(time.Millisecond), o.reset().Round(time.Millisecond), l.done.Load())
	}
	cancel()
	writing.Wait()
	l.end()
	t.Logf("%d clients, %d turns, the slowest took %v", clients, l.done.Load(), time.Duration(l.slowest.Load()).Round(time.Millisecond))
	if gone(pid) {
		t.Error("the command under the lock was ended")
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := h.code(owner); code != 3 {
		t.Errorf("exit %d, want the command's own 3", code)
	}
}

// Any node may be killed under locks, elections and queue work: nothing is lost, and all
// goes on by itself.
func TestKilledNodes(t *testing.T) {
	leaders, clients := 2, 12
	if soaking() {
		leaders, clients = 15, 50
	}
	h := newCluster(t)
	w := h.work(t.TempDir())
	l := h.load(clients)
	l.progress("clients at work")
	c, o := h.client(), new(outage)
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() { write(ctx, c, o) })
	kill := func(name string) time.Duration {
		l.progress("clients at work")
		w.put(10)
		o.reset()
		h.slay(name)
		l.progress("clients at work without " + name)
		w.put(10)
		worst := o.reset()
		h.ok("dev", "start", name)
		return worst
	}
	var outages []time.Duration
	for range leaders {
		outages = append(outages, kill(h.leader()))
	}
	follower := "node1"
	if h.leader() == follower {
		follower = "node2"
	}
	t.Logf("longest time without a write when %s was killed, which does not lead: %v", follower, kill(follower).Round(time.Millisecond))
	cancel()
	writing.Wait()
	l.end()
	slices.Sort(outages)
	t.Logf("longest time without a write when the leader was killed: median %v of %v", outages[len(outages)/2].Round(time.Millisecond), outages)
	t.Logf("%d clients, %d turns, the slowest took %v", clients, l.done.Load(), time.Duration(l.slowest.Load()).Round(time.Millisecond))
	w.check()
}

// A member whose data are lost is replaced under load: nothing is lost, and there are three
// again.
func TestReplacedNodes(t *testing.T) {
	h := newCluster(t)
	w := h.work(t.TempDir())
	l := h.load(8)
	l.progress("clients at work")
	lost := []string{h.leader()}
	if soaking() {
		lost = append(lost, "node1", "node2", "node3")
	}
	for _, name := range lost {
		began := time.Now()
		h.slay(name)
		l.progress("clients at work without " + name)
		h.ok("member", "replace", name, "--timeout", "1m")
		if err := os.RemoveAll(filepath.Join(h.cache, "conclave", "dev-nodes3-0", name)); err != nil {
			t.Fatal(err)
		}
		w.put(5)
		h.ok("dev", "start", name)
		l.progress("clients at work with the new " + name)
		voters := 0
		for _, m := range h.list("member", "ls") {
			if m.State == "healthy" && m.Role != "learner" {
				voters++
			}
		}
		if voters != 3 {
			t.Errorf("%d voters are healthy", voters)
		}
		t.Logf("%s was killed and replaced in %v", name, time.Since(began).Round(time.Millisecond))
	}
	l.end()
	w.check()
}

// work is what commands do beside a load: a lock and a leadership that are held, and
// items that are worked off.
type work struct {
	h      *house
	dir    string
	owners []int // the commands that must live
	items  int
}

func (h *house) work(dir string) *work {
	h.t.Helper()
	w := &work{h: h, dir: dir}
	for _, under := range []string{"lock run held", "election run led"} {
		file := filepath.Join(dir, strings.ReplaceAll(under, " ", "-"))
		h.under(under+" --ttl 15s", "echo $$ > "+file+"; exec sleep 1000")
		w.owners = append(w.owners, pidIn(h.t, file))
	}
	h.under("queue work jobs --concurrency 2", "echo $(cat) >> "+filepath.Join(dir, "done")) // in one write, as two run at once
	return w
}

// put puts items into the queue.
func (w *work) put(n int) {
	w.h.t.Helper()
	for range n {
		w.h.ok("queue", "put", "jobs", fmt.Sprintf("item-%d", w.items))
		w.items++
	}
}

// check sees that nothing was lost.
func (w *work) check() {
	w.h.t.Helper()
	for i, pid := range w.owners {
		if gone(pid) {
			w.h.t.Errorf("command %d was ended", i)
		}
	}
	eventually(w.h.t, "every item worked off", func() bool {
		b, err := os.ReadFile(filepath.Join(w.dir, "done"))
		if err != nil {
			return false
		}
		seen := make(map[string]bool)
		for line := range strings.FieldsSeq(string(b)) {
			seen[line] = true
		}
		return len(seen) == w.items
	})
}
