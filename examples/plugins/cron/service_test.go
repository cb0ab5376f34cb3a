package main

import (
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"

	cronv1 "example.com/conclave-cron/proto/example/cron/v1"
)

// Three hosts watch the time and three workers wait: each second's run is had by
// one of them.
func TestOnceInAFleet(t *testing.T) {
	ns := namespaceOf(t)
	hosts := []cronv1.CronServiceClient{newHost(t, etcd.Client(t)), newHost(t, etcd.Client(t)), newHost(t, etcd.Client(t))}
	name := newJob(t, hosts[0], ns, func(j *cronv1.Job) { j.Schedule, j.Misfire = "* * * * * *", cronv1.Misfire_MISFIRE_ALL })
	runs := make(chan *cronv1.WorkResponse)
	for i, h := range hosts {
		w := work(t, h, newSession(t, ns, string(rune('a'+i))))
		go func() {
			for {
				r, err := w.stream.Recv()
				if err != nil {
					return
				}
				select {
				case runs <- r:
				case <-t.Context().Done():
					return
				}
				if _, err := w.finish(r, ""); err != nil {
					return
				}
			}
		}()
	}
	var last *cronv1.WorkResponse
	for range 4 {
		r := <-runs
		if last != nil && r.GetDue().AsTime() != last.GetDue().AsTime().Add(time.Second) {
			t.Errorf("%s after %s", r.GetId(), last.GetId())
		}
		if last != nil && r.GetToken() <= last.GetToken() || r.GetAttempt() != 1 || string(r.GetPayload()) != "hello" {
			t.Errorf("%v after %v", r, last)
		}
		last = r
	}
	if _, err := hosts[1].DeleteJob(within(t), &cronv1.DeleteJobRequest{Namespace: ns, Name: name}); err != nil {
		t.Fatal(err)
	}
}

// A worker whose session ends loses its run to the next one, and finishes in
// vain.
func TestAWorkerIsLost(t *testing.T) {
	ns := namespaceOf(t)
	a, b := newHost(t, etcd.Client(t)), newHost(t, etcd.Client(t))
	name := newJob(t, a, ns, nil)
	runNow(t, a, ns, name, "one")
	ada := work(t, a, newSession(t, ns, "ada"))
	first := ada.next()
	if j, err := b.GetJob(within(t), &cronv1.GetJobRequest{Namespace: ns, Name: name}); err != nil || len(j.GetRuns()) != 1 ||
		j.GetRuns()[0].GetOwner() != "ada" || j.GetRuns()[0].GetToken() != first.GetToken() {
		t.Errorf("%v, %v", j, err)
	}
	grace := work(t, b, newSession(t, ns, "grace"))
	coretest.ExpireLease(t, etcd.Client(t), ada.lease)
	second := grace.next()
	if second.GetId() != "one" || second.GetToken() <= first.GetToken() || second.GetAttempt() != 2 {
		t.Errorf("%v after %v", second, first)
	}
	if _, err := ada.finish(first, ""); recipe.Reason(err) != "stale_token" {
		t.Errorf("a late finish: %v", err)
	}
	for range 2 { // the second time as if the answer had been lost
		if r, err := grace.finish(second, ""); err != nil || r.GetRetried() {
			t.Error(r, err)
		}
	}
	if h := history(t, a, ns, name); len(h) != 1 || h[0].GetOwner() != "grace" || h[0].GetAttempts() != 2 || h[0].GetOutcome() != cronv1.Outcome_OUTCOME_DONE {
		t.Error(h)
	}
}

// A worker that calls again, elsewhere, gets what it owns with the same token.
func TestAWorkerMoves(t *testing.T) {
	ns := namespaceOf(t)
	a, b := newHost(t, etcd.Client(t)), newHost(t, etcd.Client(t))
	name := newJob(t, a, ns, nil)
	runNow(t, a, ns, name, "one")
	s := newSession(t, ns, "ada")
	at := work(t, a, s)
	first := at.next()
	at.end()
	if again := work(t, b, s).next(); again.GetToken() != first.GetToken() || again.GetAttempt() != 1 {
		t.Errorf("%v after %v", again, first)
	}
}

// The reply to a claim is lost: the run is the session's, and is sent when it
// calls again.
func TestAClaimIsLost(t *testing.T) {
	ns, faults := namespaceOf(t), coretest.NewFaults()
	a, b := newHost(t, etcd.Client(t, faults.DialOptions()...)), newHost(t, etcd.Client(t))
	name := newJob(t, b, ns, nil)
	runNow(t, b, ns, name, "one")
	s := newSession(t, ns, "ada")
	faults.LoseReply(coretest.Puts("/run/"))
	if r, err := work(t, a, s).stream.Recv(); recipe.Reason(err) != recipe.ReasonNoQuorum {
		t.Errorf("%v, %v", r, err)
	}
	if r := work(t, b, s).next(); r.GetId() != "one" || r.GetAttempt() != 1 {
		t.Error(r)
	}
}

// An attempt that failed is repeated, and no attempt is made too often, whether
// it ended with an error or with its worker.
func TestAttemptsRunOut(t *testing.T) {
	ns := namespaceOf(t)
	host := newHost(t, etcd.Client(t))
	name := newJob(t, host, ns, func(j *cronv1.Job) { j.MaxAttempts = 2 })
	runNow(t, host, ns, name, "one")
	ada := work(t, host, newSession(t, ns, "ada"))
	r := ada.next()
	for range 2 {
		if f, err := ada.finish(r, strings.Repeat("ü", 300)); err != nil || !f.GetRetried() {
			t.Error(f, err)
		}
	}
	if r = ada.next(); r.GetAttempt() != 2 {
		t.Error(r)
	}
	coretest.ExpireLease(t, etcd.Client(t), ada.lease)
	runNow(t, host, ns, name, "two")
	if next := work(t, host, newSession(t, ns, "grace")).next(); next.GetId() != "two" {
		t.Error(next)
	}
	deadline := within(t)
	for {
		h := history(t, host, ns, name)
		if len(h) == 1 && h[0].GetOutcome() == cronv1.Outcome_OUTCOME_FAILED && h[0].GetAttempts() == 2 && strings.Contains(h[0].GetError(), "session") {
			break
		}
		if deadline.Err() != nil {
			t.Fatal(h)
		}
	}
}

// One run of a job at a time, unless it says otherwise; a worker has as many as
// it asked for.
func TestOverlap(t *testing.T) {
	ns := namespaceOf(t)
	host := newHost(t, etcd.Client(t))
	newJob(t, host, ns, func(j *cronv1.Job) { j.Name = "one" })
	newJob(t, host, ns, func(j *cronv1.Job) { j.Name, j.Overlap = "many", true })
	for _, id := range []string{"1", "2"} {
		runNow(t, host, ns, "one", id)
		runNow(t, host, ns, "many", id)
	}
	one := work(t, host, newSession(t, ns, "ada"), "one")
	if r := one.next(); r.GetId() != "1" {
		t.Error(r)
	}
	for _, owner := range []string{"b", "c"} {
		if r := work(t, host, newSession(t, ns, owner)).next(); r.GetName() != "many" {
			t.Errorf("%s got %v", owner, r)
		}
	}
}

func TestPause(t *testing.T) {
	ns := namespaceOf(t)
	host := newHost(t, etcd.Client(t))
	name := newJob(t, host, ns, func(j *cronv1.Job) { j.Schedule = "* * * * * *" })
	p, err := host.Pause(within(t), &cronv1.PauseRequest{Namespace: ns, Name: name})
	if err != nil || !p.GetJob().GetPaused() || p.GetJob().GetNext() != nil {
		t.Fatal(p, err)
	}
	l, err := host.ListJobs(within(t), &cronv1.ListJobsRequest{Namespace: ns})
	if err != nil || len(l.GetJobs()) != 1 || !l.GetJobs()[0].GetPaused() {
		t.Error(l, err)
	}
	if p, err = host.Pause(within(t), &cronv1.PauseRequest{Namespace: ns, Name: name, Resume: true}); err != nil || p.GetJob().GetNext() == nil {
		t.Error(p, err)
	}
	n, err := host.NextRuns(within(t), &cronv1.NextRunsRequest{Schedule: "@daily", TimeZone: "Europe/Berlin", Count: 2})
	if err != nil || len(n.GetTimes()) != 2 {
		t.Error(n, err)
	}
	if _, err := host.DeleteJob(within(t), &cronv1.DeleteJobRequest{Namespace: ns, Name: name}); err != nil {
		t.Error(err)
	}
}

func TestBadInput(t *testing.T) {
	host, ctx := newHost(t, etcd.Client(t)), within(t)
	set := func(change func(*cronv1.Job)) func() (any, error) {
		j := &cronv1.Job{Name: "j", Schedule: "@daily"}
		change(j)
		return func() (any, error) { return host.SetJob(ctx, &cronv1.SetJobRequest{Namespace: "bad", Job: j}) }
	}
	for want, call := range map[string]func() (any, error){
		"invalid_name: name: ":                                      set(func(j *cronv1.Job) { j.Name = "" }),
		"invalid_schedule: schedule: is \"at noon\"":                set(func(j *cronv1.Job) { j.Schedule = "at noon" }),
		"invalid_time_zone: time_zone: is \"CEST\"":                 set(func(j *cronv1.Job) { j.TimeZone = "CEST" }),
		"invalid_misfire: misfire: is 9, must be at most 3":         set(func(j *cronv1.Job) { j.Misfire = 9 }),
		"invalid_catch_up: catch_up: is 101":                        set(func(j *cronv1.Job) { j.CatchUp = 101 }),
		"invalid_max_attempts: max_attempts: is -1":                 set(func(j *cronv1.Job) { j.MaxAttempts = -1 }),
		"invalid_payload: payload: is 65537, must be at most 65536": set(func(j *cronv1.Job) { j.Payload = make([]byte, 65537) }),
		"not_found: job \"j\"": func() (any, error) {
			return host.RunNow(ctx, &cronv1.RunNowRequest{Namespace: "bad", Name: "j", Id: "1"})
		},
		"invalid_id: id: ": func() (any, error) {
			return host.RunNow(ctx, &cronv1.RunNowRequest{Namespace: "bad", Name: "j", Id: "a/b"})
		},
		"invalid_count: count: is 101": func() (any, error) {
			return host.NextRuns(ctx, &cronv1.NextRunsRequest{Schedule: "@daily", Count: 101})
		},
		"invalid_namespace: ":  func() (any, error) { return host.ListJobs(ctx, &cronv1.ListJobsRequest{Namespace: ".."}) },
		"invalid_session_id: ": func() (any, error) { return host.Finish(ctx, &cronv1.FinishRequest{Name: "j", Id: "1", Token: 1}) },
		"invalid_session_id: session_id: ": func() (any, error) {
			s, err := host.Work(ctx, &cronv1.WorkRequest{})
			if err != nil {
				return nil, err
			}
			return s.Recv()
		},
	} {
		if _, err := call(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
