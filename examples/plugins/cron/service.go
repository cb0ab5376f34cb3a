package main

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclavehq/conclave/core/recipe"

	cronv1 "example.com/conclave-cron/proto/example/cron/v1"
)

// service is the jobs over gRPC.
type service struct {
	cronv1.UnimplementedCronServiceServer

	env      recipe.Env
	instance *instance
	now      func() time.Time
}

// place returns the namespace that a request is about, and its keys.
func (s *service) place(ctx context.Context, requested string) (string, keys, error) {
	ns, err := recipe.Namespace(ctx, requested)
	if err != nil {
		return "", keys{}, err
	}
	k, err := newKeys(s.env, ns)
	return ns, k, err
}

// named is a request about one job.
type named interface {
	GetNamespace() string
	GetName() string
}

// job reads the job that a request names.
func (s *service) job(ctx context.Context, r named) (k keys, j job, rev int64, err error) {
	ns, k, err := s.place(ctx, r.GetNamespace())
	if err != nil {
		return k, j, 0, err
	}
	if _, err := s.env.Key(ns, r.GetName()); err != nil {
		return k, j, 0, err
	}
	got, err := s.env.Client.Get(ctx, k.job(r.GetName()))
	if err != nil {
		return k, j, 0, recipe.Status(err)
	}
	if len(got.Kvs) == 0 {
		return k, j, 0, notFound(r.GetName())
	}
	j, err = decode(got.Kvs[0].Value)
	return k, j, got.Kvs[0].ModRevision, err
}

func notFound(name string) error {
	return recipe.Errorf(codes.NotFound, "not_found", "job %q: there is none; SetJob makes one", name)
}

// change reads a job and writes what f makes of it, until nobody came between.
func (s *service) change(ctx context.Context, r named, f func(job) (job, error)) (job, error) {
	for {
		k, j, rev, err := s.job(ctx, r)
		if err != nil {
			return j, err
		}
		n, err := f(j.clone())
		if err != nil {
			return j, err
		}
		if done, err := write(ctx, s.env, k, n, rev, nil); err != nil || done != 0 {
			return n, err
		}
	}
}

// SetJob sets a job.
func (s *service) SetJob(ctx context.Context, r *cronv1.SetJobRequest) (*cronv1.SetJobResponse, error) {
	ns, k, err := s.place(ctx, r.GetNamespace())
	if err != nil {
		return nil, err
	}
	want, err := s.wanted(ns, r.GetJob())
	if err != nil {
		return nil, err
	}
	home, err := newKeys(s.env, recipe.DefaultNamespace)
	if err != nil {
		return nil, err
	}
	for {
		_, j, rev, err := s.job(ctx, &cronv1.PauseRequest{Namespace: ns, Name: want.Name})
		if err != nil && recipe.Reason(err) != "not_found" {
			return nil, err
		}
		n := want
		n.Last, n.Paused, n.Waiting, n.Past = s.now().UnixMilli(), j.Paused, j.Waiting, j.Past
		done, err := write(ctx, s.env, k, n, rev, nil, clientv3.OpPut(home.namespace(ns), ""))
		if err != nil {
			return nil, err
		}
		if done != 0 {
			return &cronv1.SetJobResponse{Job: show(n)}, nil
		}
	}
}

// wanted checks a job and fills in what was left out.
func (s *service) wanted(ns string, r *cronv1.Job) (job, error) {
	if _, err := s.env.Key(ns, r.GetName()); err != nil {
		return job{}, err
	}
	switch _, err := parse(r.GetSchedule(), r.GetTimeZone()); {
	case errors.Is(err, errZone):
		return job{}, recipe.Errorf(codes.InvalidArgument, "invalid_time_zone", "%v", err)
	case err != nil:
		return job{}, recipe.Errorf(codes.InvalidArgument, "invalid_schedule", "%v", err)
	}
	for _, limit := range []struct {
		field string
		value int
		most  int
	}{{"misfire", int(r.GetMisfire()), 3}, {"catch_up", int(r.GetCatchUp()), 100}, {"max_attempts", int(r.GetMaxAttempts()), 100}, {"payload", len(r.GetPayload()), 65536}} {
		if limit.value < 0 || limit.value > limit.most {
			return job{}, recipe.Errorf(codes.InvalidArgument, "invalid_"+limit.field, "%s: is %d, must be at most %d", limit.field, limit.value, limit.most)
		}
	}
	return job{
		V: 1, Name: r.GetName(), Schedule: r.GetSchedule(), Zone: r.GetTimeZone(),
		Misfire: cmp.Or(r.GetMisfire(), cronv1.Misfire_MISFIRE_ONCE), CatchUp: cmp.Or(r.GetCatchUp(), 10),
		MaxAttempts: cmp.Or(r.GetMaxAttempts(), 3), Payload: r.GetPayload(), Overlap: r.GetOverlap(),
	}, nil
}

// show is a job as callers see it.
func show(j job) *cronv1.Job {
	out := &cronv1.Job{
		Name: j.Name, Schedule: j.Schedule, TimeZone: j.Zone, Misfire: j.Misfire, CatchUp: j.CatchUp, MaxAttempts: j.MaxAttempts,
		Payload: j.Payload, Overlap: j.Overlap, Paused: j.Paused, Waiting: int32(len(j.Waiting)),
	}
	if at := j.next(); !at.IsZero() {
		out.Next = timestamppb.New(at)
	}
	return out
}

// DeleteJob removes a job.
func (s *service) DeleteJob(ctx context.Context, r *cronv1.DeleteJobRequest) (*cronv1.DeleteJobResponse, error) {
	ns, k, err := s.place(ctx, r.GetNamespace())
	if err != nil {
		return nil, err
	}
	if _, err := s.env.Key(ns, r.GetName()); err != nil {
		return nil, err
	}
	_, err = s.env.Client.Txn(ctx).Then(clientv3.OpDelete(k.job(r.GetName())), clientv3.OpDelete(k.runs(r.GetName()), clientv3.WithPrefix())).Commit()
	if err != nil {
		return nil, recipe.Status(err)
	}
	return &cronv1.DeleteJobResponse{}, nil
}

// ListJobs tells of every job.
func (s *service) ListJobs(ctx context.Context, r *cronv1.ListJobsRequest) (*cronv1.ListJobsResponse, error) {
	_, k, err := s.place(ctx, r.GetNamespace())
	if err != nil {
		return nil, err
	}
	got, err := s.env.Client.Get(ctx, k.start+"job/", clientv3.WithPrefix())
	if err != nil {
		return nil, recipe.Status(err)
	}
	out := &cronv1.ListJobsResponse{}
	for _, kv := range got.Kvs {
		j, err := decode(kv.Value)
		if err != nil {
			return nil, err
		}
		out.Jobs = append(out.Jobs, show(j))
	}
	slices.SortFunc(out.Jobs, func(a, b *cronv1.Job) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

// GetJob tells of one job.
func (s *service) GetJob(ctx context.Context, r *cronv1.GetJobRequest) (*cronv1.GetJobResponse, error) {
	k, j, _, err := s.job(ctx, r)
	if err != nil {
		return nil, err
	}
	got, err := s.env.Client.Get(ctx, k.runs(j.Name), clientv3.WithPrefix())
	if err != nil {
		return nil, recipe.Status(err)
	}
	taken := make(map[string]run, len(got.Kvs))
	for _, kv := range got.Kvs {
		r, err := decodeRun(kv)
		if err != nil {
			return nil, err
		}
		taken[r.ID] = r
	}
	out := &cronv1.GetJobResponse{Job: show(j)}
	for _, w := range j.Waiting {
		out.Runs = append(out.Runs, &cronv1.OpenRun{
			Id: w.ID, Due: timestamppb.New(time.UnixMilli(w.Due)), Attempts: w.Attempts, Error: w.Error,
			Owner: taken[w.ID].Owner, Token: taken[w.ID].token,
		})
	}
	return out, nil
}

// Pause stops a job, or lets it go on.
func (s *service) Pause(ctx context.Context, r *cronv1.PauseRequest) (*cronv1.PauseResponse, error) {
	j, err := s.change(ctx, r, func(j job) (job, error) {
		if j.Paused && r.GetResume() {
			j.Last = s.now().UnixMilli()
		}
		j.Paused = !r.GetResume()
		return j, nil
	})
	if err != nil {
		return nil, err
	}
	return &cronv1.PauseResponse{Job: show(j)}, nil
}

var validID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// RunNow adds a run.
func (s *service) RunNow(ctx context.Context, r *cronv1.RunNowRequest) (*cronv1.RunNowResponse, error) {
	if !validID.MatchString(r.GetId()) {
		return nil, recipe.Errorf(codes.InvalidArgument, "invalid_id", `id: must be 1 to 64 letters, digits, "-" and "_"`)
	}
	_, err := s.change(ctx, r, func(j job) (job, error) {
		if _, over := j.over(r.GetId()); over || j.find(r.GetId()) >= 0 {
			return j, nil
		}
		if len(j.Waiting) >= 200 {
			return j, recipe.Errorf(codes.Aborted, "full", "job %q: %d runs wait", j.Name, len(j.Waiting))
		}
		j.Waiting = append(j.Waiting, waiting{ID: r.GetId(), Due: s.now().UnixMilli(), Asked: true})
		return j, nil
	})
	if err != nil {
		return nil, err
	}
	return &cronv1.RunNowResponse{}, nil
}

// NextRuns tells when a job comes due.
func (s *service) NextRuns(ctx context.Context, r *cronv1.NextRunsRequest) (*cronv1.NextRunsResponse, error) {
	count := int(r.GetCount())
	if count == 0 {
		count = 5
	}
	if count < 0 || count > 100 {
		return nil, recipe.Errorf(codes.InvalidArgument, "invalid_count", "count: is %d, must be 1 to 100", count)
	}
	spec, zone, from := r.GetSchedule(), r.GetTimeZone(), s.now()
	if r.GetName() != "" {
		_, j, _, err := s.job(ctx, r)
		if err != nil {
			return nil, err
		}
		spec, zone, from = j.Schedule, j.Zone, time.UnixMilli(j.Last)
	}
	sched, err := parse(spec, zone)
	switch {
	case errors.Is(err, errZone):
		return nil, recipe.Errorf(codes.InvalidArgument, "invalid_time_zone", "%v", err)
	case err != nil:
		return nil, recipe.Errorf(codes.InvalidArgument, "invalid_schedule", "%v", err)
	}
	out := &cronv1.NextRunsResponse{}
	for t := sched.next(from); !t.IsZero() && len(out.GetTimes()) < count; t = sched.next(t) {
		out.Times = append(out.Times, timestamppb.New(t))
	}
	return out, nil
}

// History tells of a job's latest runs.
func (s *service) History(ctx context.Context, r *cronv1.HistoryRequest) (*cronv1.HistoryResponse, error) {
	_, j, _, err := s.job(ctx, r)
	if err != nil {
		return nil, err
	}
	out := &cronv1.HistoryResponse{}
	for _, p := range j.Past {
		run := &cronv1.PastRun{
			Id: p.ID, Due: timestamppb.New(time.UnixMilli(p.Due)), Ended: timestamppb.New(time.UnixMilli(p.Ended)),
			Owner: p.Owner, Attempts: p.Attempts, Outcome: p.Outcome, Error: p.Error,
		}
		if p.Attempts > 0 {
			run.Began = timestamppb.New(time.UnixMilli(p.Began))
		}
		out.Runs = append(out.Runs, run)
	}
	return out, nil
}

// Work sends runs to a worker.
func (s *service) Work(r *cronv1.WorkRequest, stream grpc.ServerStreamingServer[cronv1.WorkResponse]) error {
	ctx := stream.Context()
	ns, _, err := s.place(ctx, r.GetNamespace())
	if err != nil {
		return err
	}
	session, err := recipe.Session(ctx, s.env)
	if err != nil {
		return err
	}
	caller, _ := recipe.CallerFrom(ctx)
	limit := int(cmp.Or(r.GetConcurrency(), 1))
	if limit < 0 || limit > 1000 {
		return recipe.Errorf(codes.InvalidArgument, "invalid_concurrency", "concurrency: is %d, must be 1 to 1000", limit)
	}
	if len(r.GetNames()) > 1000 {
		return recipe.Errorf(codes.InvalidArgument, "invalid_names", "names: are %d, must be at most 1000", len(r.GetNames()))
	}
	m, err := s.instance.mirror(ns)
	if err != nil {
		return recipe.Errorf(codes.Unavailable, recipe.ReasonRestarting, "the recipe is stopping here; call again")
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errStopped)
	defer context.AfterFunc(session.Context(), func() { cancel(context.Cause(session.Context())) })()
	names := slices.Clone(r.GetNames())
	slices.Sort(names)
	w := &worker{mirror: m, caller: caller, now: s.now, names: names, limit: limit, send: stream.Send,
		sent: make(map[int64]bool), tried: make(map[string]int64)}
	return w.run(ctx)
}

// Finish ends a run.
func (s *service) Finish(ctx context.Context, r *cronv1.FinishRequest) (*cronv1.FinishResponse, error) {
	ns, k, err := s.place(ctx, r.GetNamespace())
	if err != nil {
		return nil, err
	}
	caller, ok := recipe.CallerFrom(ctx)
	if !ok {
		return nil, recipe.Errorf(codes.InvalidArgument, "invalid_session_id", "session_id: is empty; open a session first")
	}
	if _, err := s.env.Key(ns, r.GetName()); err != nil {
		return nil, err
	}
	retried, err := finish(ctx, s.env, k, caller, r, s.now)
	if err != nil {
		return nil, err
	}
	return &cronv1.FinishResponse{Retried: retried}, nil
}
