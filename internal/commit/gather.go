package commit

import (
	"runtime"
	"time"
)

// gathering bounds a Gather. Less than a request takes.
const gathering = 100 * time.Microsecond

// Gather waits for a moment until those who were answered just now have come
// back: callers who go round in a loop would else be torn into a first one, which
// is sent alone, and the rest, which wait for it. It ends when as many wait as
// were answered, beside those who wait already, or most; or when nobody came
// while the others had their turn on the processors.
func Gather(answered, most int, waiting func() int) {
	have := waiting()
	all := min(have+answered, most)
	for began := time.Now(); have < all; {
		runtime.Gosched()
		before := have
		if have = waiting(); have == before && have > 0 || time.Since(began) > gathering {
			return
		}
	}
}

func (c *Committer) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}
