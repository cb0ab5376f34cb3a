package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/conclavehq/conclave/core/embedded"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// joiner is the configuration of a member that can be reached.
func joiner(t *testing.T, name string) embedded.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config(t.TempDir())
	cfg.Name, cfg.PeerAddr = name, l.Addr().String()
	return cfg
}

func admit(t *testing.T, c *clientv3.Client, cfg embedded.Config) embedded.Config {
	t.Helper()
	cfg, err := embedded.Admit(within(t), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func members(t *testing.T, c *clientv3.Client) map[string]*pb.Member {
	t.Helper()
	list, err := c.MemberList(within(t))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*pb.Member)
	for _, m := range list.Members {
		all[m.Name] = m
	}
	return all
}

// A cluster grows from one member to three, each of which votes when its Start returns.
func TestJoin(t *testing.T) {
	first := start(t, joiner(t, "first"))
	if _, err := first.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		name := fmt.Sprintf("joined%d", i)
		m := start(t, admit(t, first.Client(), joiner(t, name)))
		all := members(t, m.Client())
		if self := all[name]; len(all) != i+2 || self == nil || self.IsLearner {
			t.Fatalf("after %s joined: %v", name, all)
		}
		if got, err := m.Client().Get(within(t), "k"); err != nil || len(got.Kvs) != 1 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// A join that ended at any point goes on with the same configuration: before the member had data, and after.
func TestJoinIsResumed(t *testing.T) {
	first := start(t, joiner(t, "first"))
	cfg := joiner(t, "second")
	admit(t, first.Client(), cfg)
	joining := admit(t, first.Client(), cfg) // the place is the same
	if all := members(t, first.Client()); len(all) != 2 {
		t.Fatalf("after two admissions: %v", all)
	}
	// Without Join it stays the learner that it is counted as, with data.
	learner := joining
	learner.Join, learner.Tune = false, func(e *embed.Config) { e.ClusterState = embed.ClusterStateFlagExisting }
	ctx, cancel := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() {
		_, err := embedded.Start(ctx, learner)
		ended <- err
	}()
	awaitNamed(t, first.Client(), "second")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !errors.Is(err, embedded.ErrNoQuorum) {
		t.Errorf("a learner's start: %v", err)
	}
	if !embedded.HasData(cfg.DataDir) {
		t.Fatal("the member has run, and its directory has no data")
	}
	cfg.Join = true
	m := start(t, cfg)
	if self := members(t, m.Client())["second"]; self == nil || self.IsLearner {
		t.Errorf("after the second start: %v", self)
	}
}

// awaitNamed waits until a member has told its name to the others.
func awaitNamed(t *testing.T, c *clientv3.Client, name string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := within(t); members(t, c)[name] == nil; {
		select {
		case <-tick.C:
		case <-end.Done():
			t.Fatalf("no member %s", name)
		}
	}
}

// A member whose data were lost must not come back as if it had never voted, and no name is given twice.
func TestJoinOfWhatExistsIsRefused(t *testing.T) {
	cfg := joiner(t, "first")
	first := start(t, cfg)
	lost := cfg
	lost.DataDir = t.TempDir()
	twice := joiner(t, "first")
	for what, cfg := range map[string]embedded.Config{"has run before": lost, "the name first": twice} {
		if _, err := embedded.Admit(within(t), first.Client(), cfg); !errors.Is(err, embedded.ErrMemberExists) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	free := joiner(t, "free")
	free.PeerAddr = "127.0.0.1:0"
	if _, err := embedded.Admit(within(t), first.Client(), free); !errors.Is(err, embedded.ErrConfig) || !strings.Contains(err.Error(), "PeerAddr") {
		t.Errorf("a port that is chosen at start: %v", err)
	}
}

// A place that is not used can be given back; a member that runs is left alone.
func TestWithdraw(t *testing.T) {
	first := start(t, joiner(t, "first"))
	cfg := joiner(t, "second")
	admit(t, first.Client(), cfg)
	for range 2 {
		if err := embedded.Withdraw(within(t), first.Client(), cfg); err != nil {
			t.Fatal(err)
		}
		if all := members(t, first.Client()); len(all) != 1 {
			t.Fatalf("after it was given back: %v", all)
		}
	}
	start(t, admit(t, first.Client(), cfg))
	if err := embedded.Withdraw(within(t), first.Client(), cfg); err != nil {
		t.Fatal(err)
	}
	if all := members(t, first.Client()); len(all) != 2 {
		t.Errorf("a member that runs was removed: %v", all)
	}
}

// While one member joins, the next waits; its context ends the wait and says what it waited for.
func TestAdmitWaits(t *testing.T) {
	first := start(t, joiner(t, "first"))
	second := joiner(t, "second")
	admit(t, first.Client(), second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := embedded.Admit(ctx, first.Client(), joiner(t, "third"))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "too many learner members") {
		t.Errorf("while another joins: %v", err)
	}
	third, admitted := joiner(t, "third"), make(chan error, 1)
	go func() {
		_, err := embedded.Admit(within(t), first.Client(), third)
		admitted <- err
	}()
	start(t, admit(t, first.Client(), second))
	if err := <-admitted; err != nil {
		t.Errorf("when the other one votes: %v", err)
	}
}

// Another member leads when HandOver returns, while this one goes on.
func TestHandOver(t *testing.T) {
	all := startAll(t, cluster(t, 3))
	leads := func(m *embedded.Member) bool {
		s, err := m.Client().Status(within(t), m.Endpoints()[0])
		if err != nil {
			t.Fatal(err)
		}
		return s.Leader == s.Header.GetMemberId()
	}
	for _, m := range all {
		if !leads(m) {
			continue
		}
		m.HandOver(within(t))
		if leads(m) {
			t.Error("it leads still")
		}
		if _, err := m.Client().Put(within(t), "k", "v"); err != nil {
			t.Errorf("it does not serve: %v", err)
		}
		m.HandOver(within(t)) // which is nothing now
		return
	}
	t.Fatal("nobody leads")
}
