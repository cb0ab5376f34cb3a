package election_test

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// An observer reads one stream after another.
type observer struct {
	electionv1.ElectionService_ObserveClient

	tb     testing.TB
	req    *electionv1.ObserveRequest
	cancel context.CancelFunc
}

func observe(tb testing.TB, h *host, req *electionv1.ObserveRequest) *observer {
	tb.Helper()
	o := &observer{tb: tb, req: req}
	o.at(h)
	return o
}

// at goes on at a host, after what was told last.
func (o *observer) at(h *host) {
	o.tb.Helper()
	ctx, cancel := context.WithCancel(testContext(o.tb))
	stream, err := h.Observe(ctx, o.req)
	if err != nil {
		o.tb.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		o.tb.Fatal(err)
	}
	o.ElectionService_ObserveClient, o.cancel = stream, cancel
}

// next is what is told next.
func (o *observer) next() *electionv1.ObserveResponse {
	o.tb.Helper()
	resp, err := o.Recv()
	if err != nil {
		o.tb.Fatal(err)
	}
	if resp.GetVacant() != (resp.GetToken() == 0) || resp.GetVacant() != (len(resp.GetLeaders()) == 0) || resp.GetRevision() <= o.req.GetAfterRevision() && !resp.GetGap() {
		o.tb.Fatalf("after %d comes %v", o.req.GetAfterRevision(), resp)
	}
	o.req.AfterRevision = resp.GetRevision()
	return resp
}

// wants checks what is told next.
func (o *observer) wants(token core.Token, value string) {
	o.tb.Helper()
	if resp := o.next(); resp.GetToken() != int64(token) || resp.GetValue() != value || resp.GetGap() {
		o.tb.Fatalf("it tells %v, want %d with %q", resp, token, value)
	}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	s := session(t, "program", ns)
	o := observe(t, h, &electionv1.ObserveRequest{Namespace: ns, Name: "jobs"})
	o.wants(0, "")
	term := leads(t, s, "jobs", election.WithZone("a"))
	first := o.next()
	if l := first.GetLeaders()[0]; first.GetOwner() != "program" || first.GetToken() != int64(term.Token()) || first.GetValue() != "program" ||
		first.GetSince() == nil || l.GetOwner() != "program" || l.GetZone() != "a" || l.GetLease() != int64(s.Lease()) || l.GetId() == "" {
		t.Errorf("the first leader is told as %v", first)
	}
	late := observe(t, h, &electionv1.ObserveRequest{Namespace: ns, Name: "jobs"})
	late.wants(term.Token(), "program")
	if err := term.Proclaim(testContext(t), "new"); err != nil {
		t.Fatal(err)
	}
	next := stands(t, session(t, "next", ns), "jobs")
	h.inLine(t, ns, "jobs", 1)
	resign(t, term)
	second := <-next
	resign(t, second)
	for _, o := range []*observer{o, late} {
		o.wants(term.Token(), "new")
		o.wants(second.Token(), "next")
		o.wants(0, "")
	}
	h.Stop(t)
	_, err := o.Recv()
	want(t, err, codes.Unavailable, "recipe_restarting")
}

// TestObserveAcrossHosts: an observer that goes on at another host is told every term
// once and in order, whatever happened while it was nowhere.
func TestObserveAcrossHosts(t *testing.T) {
	t.Parallel()
	for _, seats := range []int{1, 2} {
		t.Run(fmt.Sprint(seats, " seats"), func(t *testing.T) {
			t.Parallel()
			hosts := []*host{startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil)}
			ns, opts := namespace(t), election.WithSeats(seats)
			s := session(t, "program", ns)
			o := observe(t, hosts[0], &electionv1.ObserveRequest{Namespace: ns, Name: "jobs", Seats: int32(seats)})
			o.wants(0, "")
			for k := range 8 {
				seen := leads(t, s, "jobs", opts)
				o.wants(seen.Token(), "program")
				if k%2 == 0 {
					resign(t, seen)
					o.wants(0, "")
				}
				o.cancel()
				if k%4 == 3 { // nothing happens while it is nowhere
					o.at(hosts[k%2])
					resign(t, seen)
					o.wants(0, "")
					continue
				}
				var missed []*election.Term
				if k%2 == 1 {
					resign(t, seen)
				}
				for range 3 {
					term := leads(t, s, "jobs", opts)
					if err := term.Proclaim(testContext(t), "new"); err != nil {
						t.Fatal(err)
					}
					resign(t, term)
					missed = append(missed, term)
				}
				o.at(hosts[k%2])
				if k%2 == 1 {
					o.wants(0, "")
				}
				for _, term := range missed {
					o.wants(term.Token(), "program")
					o.wants(term.Token(), "new")
					o.wants(0, "")
				}
			}
			o.cancel()
		})
	}
}

// TestObserveSaysWhatIsMissing: what was compacted while the observer was nowhere is
// a gap, and what came after it is told.
func TestObserveSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	h, s := startHost(t, e.Client(t), nil), sessionOn(t, e, "program", "default")
	o := observe(t, h, &electionv1.ObserveRequest{Name: "jobs"})
	o.wants(0, "")
	o.cancel()
	resign(t, leads(t, s, "jobs"))
	there := leads(t, s, "jobs")
	if _, err := e.Client(t).Compact(testContext(t), e.Revision(t), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	resign(t, there)
	after := leads(t, s, "jobs")
	o.at(h)
	if resp := o.next(); resp.GetToken() != int64(there.Token()) || !resp.GetGap() {
		t.Fatalf("after the gap it tells %v", resp)
	}
	o.wants(0, "")
	o.wants(after.Token(), "program")
	o.cancel()
	far := observe(t, h, &electionv1.ObserveRequest{Name: "jobs", AfterRevision: 1 << 40}) // of a store that is no more
	if resp, err := far.Recv(); err != nil || resp.GetToken() != int64(after.Token()) || !resp.GetGap() {
		t.Errorf("after a revision that is still to come it tells %v, %v", resp, err)
	}
	far.cancel()
}

// TestManyObservers: all are told every term once and in order.
func TestManyObservers(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	s := session(t, "program", ns)
	observers := make([]*observer, 50)
	for k := range observers {
		observers[k] = observe(t, h, &electionv1.ObserveRequest{Namespace: ns, Name: "jobs"})
		observers[k].wants(0, "")
	}
	var terms []*election.Term
	for range 20 {
		terms = append(terms, leads(t, s, "jobs"))
		resign(t, terms[len(terms)-1])
	}
	for _, o := range observers {
		for _, term := range terms {
			o.wants(term.Token(), "program")
			o.wants(0, "")
		}
		o.cancel()
	}
}

// Without a number of seats those of the election are found out.
func TestObserveFindsTheSeats(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	first, second := session(t, "first", ns), session(t, "second", ns)
	a := leads(t, first, "jobs", election.WithSeats(2))
	o := observe(t, h, &electionv1.ObserveRequest{Namespace: ns, Name: "jobs"})
	o.wants(a.Token(), "first")
	b := leads(t, second, "jobs", election.WithSeats(2))
	if resp := o.next(); resp.GetToken() != int64(a.Token()) || len(resp.GetLeaders()) != 2 || resp.GetLeaders()[1].GetToken() != int64(b.Token()) {
		t.Fatalf("it tells %v", resp)
	}
	resign(t, a)
	o.wants(b.Token(), "second")
	o.cancel()
}
