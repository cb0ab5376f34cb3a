package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	cronv1 "example.com/conclave-cron/proto/example/cron/v1"
)

const (
	pastRuns = 20          // that a job keeps
	tooLate  = time.Minute // with MISFIRE_SKIP
	idForm   = "20060102T150405Z"
)

// job is a job with its runs, as etcd has it: JSON under one key. Every change is
// a transaction that compares the key's revision, so two hosts never decide the
// same thing twice.
type job struct {
	V           int            `json:"v"`
	Name        string         `json:"name"`
	Schedule    string         `json:"schedule"`
	Zone        string         `json:"zone,omitempty"`
	Misfire     cronv1.Misfire `json:"misfire"`
	CatchUp     int32          `json:"catch_up"`
	MaxAttempts int32          `json:"max_attempts"`
	Payload     []byte         `json:"payload,omitempty"`
	Overlap     bool           `json:"overlap,omitempty"`
	Paused      bool           `json:"paused,omitempty"`
	// Last is up to when the schedule has been looked at, in milliseconds.
	Last    int64     `json:"last"`
	Waiting []waiting `json:"waiting,omitempty"` // the oldest first
	Past    []past    `json:"past,omitempty"`    // the newest first
}

// waiting is a run that is not over. It is with a worker while the key for it
// stands, which is attached to the worker's lease.
type waiting struct {
	ID        string `json:"id"`
	Due       int64  `json:"due"`
	Attempts  int32  `json:"attempts,omitempty"`
	NotBefore int64  `json:"not_before,omitempty"`
	Owner     string `json:"owner,omitempty"`
	Began     int64  `json:"began,omitempty"`
	Error     string `json:"error,omitempty"`
	Failed    int64  `json:"failed,omitempty"` // the token whose attempt failed last
	Asked     bool   `json:"asked,omitempty"`  // by RunNow: no misfire policy applies
}

// past is a run that is over.
type past struct {
	waiting

	Ended   int64          `json:"ended"`
	Outcome cronv1.Outcome `json:"outcome"`
	Token   int64          `json:"token,omitempty"`
}

func decode(b []byte) (job, error) {
	var j job
	if err := json.Unmarshal(b, &j); err != nil {
		return j, fmt.Errorf("a job's record: %w", err)
	}
	if j.V != 1 {
		return j, fmt.Errorf("a job's record: version %d is not understood", j.V)
	}
	return j, nil
}

func (j job) encode() string {
	b, err := json.Marshal(j)
	if err != nil {
		panic(err) // a struct of plain values
	}
	return string(b)
}

func (j job) clone() job {
	j.Waiting, j.Past = slices.Clone(j.Waiting), slices.Clone(j.Past)
	return j
}

// find returns the index of a run that is not over, or -1.
func (j job) find(id string) int {
	return slices.IndexFunc(j.Waiting, func(w waiting) bool { return w.ID == id })
}

// over returns a run that is over.
func (j job) over(id string) (past, bool) {
	i := slices.IndexFunc(j.Past, func(p past) bool { return p.ID == id })
	if i < 0 {
		return past{}, false
	}
	return j.Past[i], true
}

// end moves a run to the past; j is a clone.
func (j *job) end(i int, now time.Time, outcome cronv1.Outcome, token int64) {
	p := past{waiting: j.Waiting[i], Ended: now.UnixMilli(), Outcome: outcome, Token: token}
	j.Waiting = slices.Delete(j.Waiting, i, i+1)
	j.Past = slices.Insert(j.Past, 0, p)
	j.Past = j.Past[:min(len(j.Past), pastRuns)]
}

// advance notes what came due, and drops what the misfire policy says. It
// returns false if nothing has changed.
func (j job) advance(now time.Time) (job, bool) {
	if j.Paused {
		return j, false
	}
	s, err := parse(j.Schedule, j.Zone)
	if err != nil {
		return j, false // it was valid once; List shows no next time
	}
	n := j.clone()
	times, _ := s.between(time.UnixMilli(j.Last), now, 100)
	for _, t := range times {
		id := t.UTC().Format(idForm)
		if _, known := j.over(id); !known && j.find(id) < 0 {
			n.Waiting = append(n.Waiting, waiting{ID: id, Due: t.UnixMilli()})
		}
		n.Last = t.UnixMilli()
	}
	dropped := n.drop(now)
	return n, dropped || len(times) > 0
}

// drop ends the runs that are not to be made up for; j is a clone.
func (j *job) drop(now time.Time) (dropped bool) {
	keep := 1
	switch j.Misfire {
	case cronv1.Misfire_MISFIRE_ALL, cronv1.Misfire_MISFIRE_SKIP:
		keep = int(j.CatchUp)
	}
	for i := len(j.Waiting) - 1; i >= 0; i-- {
		w := j.Waiting[i]
		if w.Attempts > 0 || w.Asked {
			continue
		}
		late := j.Misfire == cronv1.Misfire_MISFIRE_SKIP && now.UnixMilli()-w.Due > tooLate.Milliseconds()
		if keep--; keep < 0 || late {
			j.end(i, now, cronv1.Outcome_OUTCOME_MISSED, 0)
			dropped = true
		}
	}
	return dropped
}

// next is when the job comes due, or the zero time.
func (j job) next() time.Time {
	s, err := parse(j.Schedule, j.Zone)
	if err != nil || j.Paused {
		return time.Time{}
	}
	return s.next(time.UnixMilli(j.Last))
}

// wake is when the schedule has to be looked at again.
func (j job) wake() time.Time {
	at := j.next()
	if j.Misfire != cronv1.Misfire_MISFIRE_SKIP || j.Paused {
		return at
	}
	for _, w := range j.Waiting {
		if late := time.UnixMilli(w.Due).Add(tooLate + time.Millisecond); w.Attempts == 0 && (at.IsZero() || late.Before(at)) {
			at = late
		}
	}
	return at
}

// claim gives a run to an owner.
func (j job) claim(i int, owner string, now time.Time) job {
	n := j.clone()
	w := &n.Waiting[i]
	w.Attempts, w.Owner, w.Began = w.Attempts+1, owner, now.UnixMilli()
	return n
}

// finish ends an attempt; retried says that there will be another.
func (j job) finish(i int, token int64, problem string, now time.Time) (n job, retried bool) {
	n = j.clone()
	w := &n.Waiting[i]
	w.Error = problem
	switch {
	case problem == "":
		n.end(i, now, cronv1.Outcome_OUTCOME_DONE, token)
	case w.Attempts >= j.MaxAttempts:
		n.end(i, now, cronv1.Outcome_OUTCOME_FAILED, token)
	default:
		w.Failed = token
		w.NotBefore = now.Add(min(5*time.Minute, time.Second<<min(w.Attempts-1, 10))).UnixMilli()
		return n, true
	}
	return n, false
}
