//go:build unix

package core_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

func children() map[string]func() int { return map[string]func() int{"owner": owner} }

// owner opens a session, and says for every line that it reads what it believes.
func owner() int {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ENDPOINT")}, Logger: zap.NewNop()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer client.Close()
	s, err := core.NewSession(context.Background(), client, core.WithTTL(5*time.Second))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("lease", int64(s.Lease()))
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println("ended", s.Context().Err() != nil, "cause", context.Cause(s.Context()))
	}
	return 0
}

// A process that is stopped beyond its TTL knows on its first step afterwards.
func TestStoppedProcessSeesItsLossFirst(t *testing.T) {
	t.Parallel()
	p := coretest.Child(t, "owner", "ENDPOINT="+etcd.Endpoint())
	lease, err := strconv.ParseInt(p.ExpectLine("lease"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	p.Send("?")
	if got := p.ExpectLine("ended"); got != "false cause <nil>" {
		t.Fatalf("before the stop: %s", got)
	}
	key := etcd.Prefix(t)
	rec := etcd.Record(t, key)
	put(t, etcd.Client(t), key, clientv3.LeaseID(lease))
	p.Stop()
	p.Send("?") // read as soon as it runs again
	if events := rec.Wait(2); events[1].Type != clientv3.EventTypeDelete {
		t.Fatalf("events %v", events)
	}
	p.Cont()
	if got := p.ExpectLine("ended"); got != "true cause session expired" {
		t.Errorf("after the stop: %s", got)
	}
}
