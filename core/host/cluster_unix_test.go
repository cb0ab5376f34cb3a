//go:build unix

package host_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host"
	liblock "github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/lock"
)

// cluster starts three hosts that are one cluster.
func cluster(t *testing.T) []*host.Host {
	t.Helper()
	names, peers := []string{"one", "two", "three"}, make(map[string]string)
	hosts, cfgs := make([]*host.Host, len(names)), make([]host.Config, len(names))
	for i, name := range names {
		cfgs[i] = config(t)
		cfgs[i].Name, cfgs[i].Etcd.ListenPeer, cfgs[i].Etcd.InitialCluster = name, freeAddr(t), peers
		peers[name] = "http://" + cfgs[i].Etcd.ListenPeer
	}
	var all sync.WaitGroup
	for i := range names {
		h, err := host.New(cfgs[i], host.WithRecipe(lock.Recipe{}))
		if err != nil {
			t.Fatal(err)
		}
		hosts[i] = h
		t.Cleanup(func() { stop(t, h) })
		all.Go(func() {
			if err := h.Start(within(t)); err != nil {
				t.Errorf("host %s: %v", names[i], err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return hosts
}

// moveLeader makes another member the leader.
func moveLeader(t *testing.T, hosts []*host.Host) {
	t.Helper()
	var leader *host.Host
	var heir uint64
	for _, h := range hosts {
		status, err := dial(t, h).Status(within(t), h.Etcd()[0])
		if err != nil {
			t.Fatal(err)
		}
		if id := status.Header.GetMemberId(); id == status.Leader {
			leader = h
		} else {
			heir = id
		}
	}
	if leader == nil {
		t.Fatal("nobody leads")
	}
	if _, err := dial(t, leader).MoveLeader(within(t), heir); err != nil {
		t.Fatal(err)
	}
}

// Locks outlive a change of the leader below the hosts, and the loss of a host.
// The last host has no quorum: it says so, and stops in time all the same.
func TestHostsOfOneCluster(t *testing.T) {
	t.Parallel()
	hosts := cluster(t)
	one, two, three := hosts[0], hosts[1], hosts[2]
	owner, next := newCaller(t, one.API()), newCaller(t, two.API())
	held := owner.call(one.API(), "Acquire", `"name":"moved"`)
	if held.status != http.StatusOK {
		t.Fatalf("acquired %+v", held)
	}
	waiting := make(chan answer, 1)
	go func() { waiting <- next.call(two.API(), "Acquire", `"name":"moved"`) }()
	s, err := core.NewSession(within(t), coretest.Dial(t, three.Etcd()[0]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Orphan)
	waiters(t, liblock.NewMutex(s, "moved"), 1)

	moveLeader(t, hosts)
	if again := owner.call(three.API(), "Acquire", `"name":"moved","wait":"0s"`); again.Token != held.Token {
		t.Errorf("the owner after the change of leader: %+v, want token %s", again, held.Token)
	}
	if got := owner.call(three.API(), "Release", fmt.Sprintf(`"name":"moved","token":%q`, held.Token)); got.status != http.StatusOK {
		t.Fatalf("release after the change of leader: %+v", got)
	}
	got := <-waiting
	if got.status != http.StatusOK || got.number(t) <= held.number(t) {
		t.Fatalf("the next owner: %+v after %s", got, held.Token)
	}

	stopInTime(t, one)
	if again := next.call(two.API(), "Acquire", `"name":"moved","wait":"0s"`); again.Token != got.Token {
		t.Errorf("the owner with two hosts of three: %+v, want token %s", again, got.Token)
	}
	stopInTime(t, two)
	// Who was handed the lead by two leads until it has not heard of the others for a while: what it is asked for in that time may be done once they are back.
	refused := next.call(three.API(), "TryAcquire", `"name":"other"`)
	for deadline := time.Now().Add(patience); strings.HasPrefix(refused.Message, "outcome_unknown: ") && time.Now().Before(deadline); {
		refused = next.call(three.API(), "TryAcquire", `"name":"other"`)
	}
	if refused.status != http.StatusServiceUnavailable || !strings.HasPrefix(refused.Message, "no_quorum: ") {
		t.Errorf("without quorum: %+v", refused)
	}
	if live := get(t, web(t), three.API()+"/livez"); live.status != http.StatusOK {
		t.Errorf("livez without quorum: %+v", live)
	}
	if ready := get(t, web(t), three.API()+"/readyz"); ready.status != http.StatusServiceUnavailable {
		t.Errorf("readyz without quorum: %+v", ready)
	}
	stopInTime(t, three)
}

// stopInTime holds a stop to its promise.
func stopInTime(t *testing.T, h *host.Host) {
	t.Helper()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > stopBound {
		t.Errorf("the stop took %v", took)
	} else {
		t.Logf("the stop took %v", took)
	}
}
