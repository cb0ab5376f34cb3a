package main

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclavehq/conclave/core/recipe"

	cronv1 "example.com/conclave-cron/proto/example/cron/v1"
)

// worker is a call of Work.
type worker struct {
	mirror *mirror
	caller recipe.Caller
	now    func() time.Time
	names  []string // sorted; empty: all jobs
	limit  int
	send   func(*cronv1.WorkResponse) error
	sent   map[int64]bool // by token, in this call
	// tried is the revision of a job's record that this worker has tried to claim
	// from: the mirror has yet to learn what came of it.
	tried map[string]int64
}

// offer is a run that the worker may have.
type offer struct {
	job   known
	index int
}

// run sends runs until ctx ends.
func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		mine, best, wake, changed := w.look()
		for _, r := range mine {
			if err := w.send(r); err != nil {
				return err
			}
			w.sent[r.GetToken()] = true
		}
		if best == nil {
			wait(ctx, wake, changed)
			continue
		}
		if err := w.claim(ctx, *best); err != nil {
			return err
		}
	}
	if err := recipe.Status(context.Cause(ctx)); recipe.Reason(err) != "" {
		return err
	}
	return recipe.Status(ctx.Err())
}

// look returns the runs that the session owns and that were not sent, and if it
// may own another, the oldest that waits; else when there may be one.
func (w *worker) look() (mine []*cronv1.WorkResponse, best *offer, wake time.Duration, changed <-chan struct{}) {
	now := w.now()
	wake = time.Hour
	changed = w.mirror.look(func(jobs map[string]known, runs map[string]run) {
		owned, busy := 0, make(map[string]bool, len(runs))
		for _, r := range runs {
			busy[r.Name] = true
			if r.lease != w.caller.Lease {
				continue
			}
			owned++
			if j, ok := jobs[r.Name]; ok && !w.sent[r.token] && w.wants(r.Name) {
				if i := j.job.find(r.ID); i >= 0 {
					mine = append(mine, response(j.job, i, r.token))
				}
			}
		}
		if owned >= w.limit {
			return
		}
		for name, j := range jobs {
			if !w.wants(name) || w.tried[name] == j.rev || busy[name] && !j.job.Overlap {
				continue
			}
			delete(w.tried, name)
			i, at := w.first(j.job, runs, now)
			if i >= 0 && (best == nil || j.job.Waiting[i].Due < best.job.job.Waiting[best.index].Due) {
				best = &offer{j, i}
			}
			wake = min(wake, at)
		}
	})
	return mine, best, wake, changed
}

// first returns the first run of a job that nobody has, or -1 and how long none
// may be tried.
func (w *worker) first(j job, runs map[string]run, now time.Time) (int, time.Duration) {
	wake := time.Hour
	for i, r := range j.Waiting {
		if _, taken := runs[w.mirror.keys.run(j.Name, r.ID)]; taken || r.Attempts >= j.MaxAttempts {
			continue
		}
		wait := time.UnixMilli(r.NotBefore).Sub(now)
		if wait <= 0 {
			return i, wake
		}
		wake = min(wake, wait)
	}
	return -1, wake
}

func (w *worker) wants(name string) bool {
	if len(w.names) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(w.names, name)
	return ok
}

// claim takes a run for the session, unless somebody was faster. The mirror
// shows it then, and it is sent from there, so a run is sent also if the answer
// to the claim was lost.
func (w *worker) claim(ctx context.Context, o offer) error {
	j, key := o.job.job, w.mirror.keys.run(o.job.job.Name, o.job.job.Waiting[o.index].ID)
	r := run{Name: j.Name, ID: j.Waiting[o.index].ID, Owner: w.caller.Owner}
	w.tried[j.Name] = o.job.rev
	_, err := write(ctx, w.mirror.env, w.mirror.keys, j.claim(o.index, w.caller.Owner, w.now()), o.job.rev,
		[]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		clientv3.OpPut(key, r.encode(), clientv3.WithLease(w.caller.Lease)))
	return err
}

func response(j job, i int, token int64) *cronv1.WorkResponse {
	r := j.Waiting[i]
	return &cronv1.WorkResponse{
		Name: j.Name, Id: r.ID, Due: timestamppb.New(time.UnixMilli(r.Due)), Token: token, Attempt: r.Attempts, Payload: j.Payload,
	}
}

// finish ends a run that the caller's session owns.
func finish(ctx context.Context, env recipe.Env, k keys, caller recipe.Caller, r *cronv1.FinishRequest, now func() time.Time) (retried bool, err error) {
	for {
		key := k.run(r.GetName(), r.GetId())
		got, err := env.Client.Txn(ctx).Then(clientv3.OpGet(k.job(r.GetName())), clientv3.OpGet(key)).Commit()
		if err != nil {
			return false, recipe.Status(err)
		}
		record, owner := got.Responses[0].GetResponseRange().GetKvs(), got.Responses[1].GetResponseRange().GetKvs()
		if len(record) == 0 {
			return false, notFound(r.GetName())
		}
		j, err := decode(record[0].GetValue())
		if err != nil {
			return false, err
		}
		i := j.find(r.GetId())
		if i < 0 || len(owner) == 0 || owner[0].GetCreateRevision() != r.GetToken() || owner[0].GetLease() != int64(caller.Lease) {
			return finished(j, i, r)
		}
		n, retried := j.finish(i, r.GetToken(), clip(r.GetError()), now())
		mine := clientv3.Compare(clientv3.CreateRevision(key), "=", r.GetToken())
		rev, err := write(ctx, env, k, n, record[0].GetModRevision(), []clientv3.Cmp{mine}, clientv3.OpDelete(key))
		if err != nil || rev != 0 {
			return retried, err
		}
	}
}

// finished answers who does not own the run: perhaps it is the repetition of a
// call whose answer was lost.
func finished(j job, i int, r *cronv1.FinishRequest) (retried bool, err error) {
	if i >= 0 && j.Waiting[i].Failed == r.GetToken() && r.GetToken() != 0 {
		return true, nil
	}
	if p, ok := j.over(r.GetId()); ok && p.Token == r.GetToken() && p.Token != 0 {
		return false, nil
	}
	return false, recipe.Errorf(codes.FailedPrecondition, "stale_token", "run %q of job %q is another's now, or over", r.GetId(), r.GetName())
}

// clip cuts what a worker says of an error.
func clip(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	for i := most; i > 0; i-- {
		if s[i]&0xC0 != 0x80 { // the beginning of a character
			return s[:i]
		}
	}
	return s[:most]
}
