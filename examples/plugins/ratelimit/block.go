package main

import (
	"sync"
	"time"
)

// quotaID names a quota.
type quotaID struct{ namespace, name string }

// stock is what this host holds of one quota: tokens of one window.
type stock struct {
	id  quotaID
	key string
	// claiming is held by whoever talks to etcd about this quota: the others wait
	// for what comes of it.
	claiming chan struct{}

	mu    sync.Mutex
	epoch int64     // of the window that left belongs to
	left  int64     // tokens that were claimed and not handed out
	ends  time.Time // of that window
	used  time.Time // when somebody last asked
	// Until recheck, a call for more than left+free tokens, and no more than the
	// quota, is refused without a look at etcd.
	recheck     time.Time
	free, quota int64

	// What etcd had when it last answered, to spare a claim its read; only for
	// the holder of claiming.
	seen record
	rev  int64
}

func newStock(id quotaID, key string) *stock {
	return &stock{id: id, key: key, claiming: make(chan struct{}, 1)}
}

// outcome is what comes of an attempt to take tokens.
type outcome struct {
	allowed bool
	known   bool          // without a look at etcd
	retry   time.Duration // if refused
}

// take takes n tokens if they are here, or says that it knows of none.
func (s *stock) take(n int64, now time.Time) outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = now
	if !now.Before(s.ends) {
		s.left, s.free = 0, 0
		return outcome{}
	}
	if s.left >= n {
		s.left -= n
		return outcome{allowed: true, known: true}
	}
	if now.Before(s.recheck) && n > s.left+s.free && n <= s.quota {
		return outcome{known: true, retry: s.ends.Sub(now)}
	}
	return outcome{}
}

// need is how many tokens a claim must bring so that n can be taken in a window.
func (s *stock) need(n, epoch int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return n
	}
	return n - s.left
}

// add puts a block of a window in. What was left of an older window is worth
// nothing any more: this host's clock was behind.
func (s *stock) add(r record, got int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != r.Epoch {
		s.left = 0
	}
	s.epoch, s.ends = r.Epoch, time.UnixMilli(r.Ends)
	s.left += got
	s.recheck = time.Time{}
}

// exhausted notes that a window has no more than its free tokens, which is
// looked at again after a twentieth of it, a second at most.
func (s *stock) exhausted(r record, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != r.Epoch {
		s.left = 0
	}
	s.epoch, s.ends, s.free, s.quota = r.Epoch, time.UnixMilli(r.Ends), r.free(), r.Quota
	s.recheck = now.Add(min(time.Second, time.Duration(r.Window)*time.Millisecond/20))
	return s.ends.Sub(now)
}

// empty takes all that is left out, to be given back.
func (s *stock) empty() (epoch, left int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch, left = s.epoch, s.left
	s.left = 0
	return epoch, left
}

// kept is how many tokens of a window are here.
func (s *stock) kept(epoch int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return 0
	}
	return s.left
}

// idle says that nobody has asked for a while.
func (s *stock) idle(now time.Time, since time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.used) >= since
}
