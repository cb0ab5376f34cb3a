package barrier_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

func listed(tb testing.TB, q barrier.Query) *barrier.Page {
	tb.Helper()
	return must[*barrier.Page](tb)(barrier.List(within(tb), etcd.Client(tb), q))
}

// unique is a namespace that no other run of a test has.
func unique(tb testing.TB) string {
	tb.Helper()
	number, _, _ := strings.Cut(etcd.Prefix(tb), "-")
	return "listed-" + number
}

func TestListTellsWhoIsThere(t *testing.T) {
	ns := unique(t)
	s := session(t, core.WithNamespace(ns), core.WithOwner("us"))
	held(t, barrier.New(s, "b/ü", barrier.WithPurpose("loading")))
	ctx, cancel := context.WithCancel(within(t))
	d := entering(ctx, barrier.NewDouble(s, "d", 2, barrier.WithBreakOnLoss()))
	e := must[*barrier.Entry](t)(barrier.NewDouble(s, "e", 1).Enter(within(t)))
	noError(t, barrier.NewLatch(s, "l", 3).CountDown(within(t), "a"))
	noError(t, barrier.NewLatch(s, "o", 1).CountDown(within(t), "a"))
	must[int64](t)(barrier.NewCyclic(s, "o", 1).Await(within(t)))
	eventually(t, "the ticket", func() bool { return len(etcd.Dump(t, "/conclave/"+ns+"/barrier/d/double/in/")) == 1 })
	var lines []string
	p := listed(t, barrier.Query{Namespace: ns})
	for _, st := range p.States {
		line := fmt.Sprint(st.Name, " ", st.Kind, " ", st.Phase, " ", st.There, "/", st.Parties, " gen ", st.Generation)
		for _, m := range st.Members {
			line += fmt.Sprint(" ", m.Owner, m.Purpose, m.Token > 0)
		}
		lines = append(lines, line)
	}
	want := `b/ü barrier held 1/0 gen 0 usloadingtrue
d double gathering 1/2 gen 1 ustrue
e double inside 1/1 gen 1 ustrue
l latch gathering 1/3 gen 1
o cyclic gathering 0/1 gen 2
o latch open 1/1 gen 1`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("listed:\n%s\nwant:\n%s", got, want)
	}
	if p.Revision == 0 || p.Next != "" {
		t.Errorf("revision %d, next %q", p.Revision, p.Next)
	}
	cancel()
	_, _ = d.result(t)
	noError(t, e.Leave(within(t)))
}

func TestListByPages(t *testing.T) {
	ns := unique(t)
	s := session(t, core.WithNamespace(ns))
	for i := range 7 {
		noError(t, barrier.NewLatch(s, fmt.Sprintf("jobs/%d", i), 1).CountDown(within(t), "a"))
		noError(t, barrier.NewLatch(s, fmt.Sprintf("other-%d", i), 1).CountDown(within(t), "a"))
	}
	// One name with more keys than one read returns.
	c := etcd.Client(t)
	for i := range 1100 {
		if _, err := c.Put(within(t), fmt.Sprintf("/conclave/%s/barrier/jobs%%2F3/hold/%04d", ns, i), "{}"); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	there, pages := 0, 0
	for q := (barrier.Query{Namespace: ns, Prefix: "jobs/", Limit: 2}); ; {
		p := listed(t, q)
		pages++
		for _, st := range p.States {
			if st.Kind == barrier.KindBarrier {
				there = st.There
				continue
			}
			names = append(names, st.Name)
		}
		if q.After = p.Next; q.After == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "jobs/0 jobs/1 jobs/2 jobs/3 jobs/4 jobs/5 jobs/6" || pages != 4 || there != 1100 {
		t.Errorf("%d pages, %d holders, names %s", pages, there, got)
	}
}

func TestInvalidQueries(t *testing.T) {
	for what, q := range map[string]barrier.Query{
		"namespace": {Namespace: "a/b"}, "limit": {Limit: 1001}, "prefix": {Prefix: "a\x00"}, "after": {After: ".."},
	} {
		refused(t, what, func(ctx context.Context) error { return second(barrier.List(ctx, etcd.Client(t), q)) }, what)
	}
	refused(t, "negative", func(ctx context.Context) error {
		return second(barrier.List(ctx, etcd.Client(t), barrier.Query{Limit: -1}))
	}, "limit", "1000")
}
