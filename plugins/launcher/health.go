package launcher

import (
	"context"
	"fmt"
	"time"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

// misses is how many questions in a row may stay without an answer.
const misses = 3

// dumpGrace is for a process to say what its goroutines do, and end.
const dumpGrace = 2 * time.Second

// health is what the questions about one process have come to.
type health struct {
	instance *instance
	missed   int
}

// look asks a process whether it is well. It returns why it has to be ended, or "".
func (h *health) look(p *process) (why string) {
	i := h.instance
	ctx, cancel := context.WithTimeout(i.ctx, i.cfg.CheckTimeout)
	defer cancel()
	resp, err := p.control.Check(ctx, &pluginv1.CheckRequest{})
	switch {
	case i.ctx.Err() != nil:
		return ""
	case err != nil:
		if h.missed++; h.missed < misses {
			i.become(recipe.StateDegraded, "it did not answer a question about its health: %v", plain(err))
			return ""
		}
		h.dump(p)
		return fmt.Sprintf("it did not answer %d questions about its health, the last one: %v", misses, plain(err))
	case resp.GetDegraded() != "":
		h.missed = 0
		i.become(recipe.StateDegraded, "%s", resp.GetDegraded())
	default:
		h.missed = 0
		i.become(recipe.StateReady, "")
	}
	return ""
}

// memoryEvery is how often a process with a limit is measured.
const memoryEvery = time.Second

// tooLarge says that a process takes more memory than it may, or "".
func (p *process) tooLarge() string {
	most := p.spec.Limits.MemoryBytes
	if most <= 0 {
		return ""
	}
	if rss, _, ok := usage(p.pid()); ok && rss > most {
		return fmt.Sprintf("it took %d bytes of memory, and may take %d", rss, most)
	}
	return ""
}

// dump lets a process say what it does before it is killed.
func (h *health) dump(p *process) {
	askForDump(p.pid())
	grace := time.NewTimer(dumpGrace)
	defer grace.Stop()
	select {
	case <-p.run.exited:
	case <-grace.C:
	case <-h.instance.ctx.Done():
	}
}
