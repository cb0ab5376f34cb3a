package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"strings"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/barrier"
	"github.com/conclavehq/conclave/recipes/config"
	"github.com/conclavehq/conclave/recipes/discovery"
	"github.com/conclavehq/conclave/recipes/election"
	"github.com/conclavehq/conclave/recipes/lock"
	"github.com/conclavehq/conclave/recipes/queue"
)

// hostStop is how long a host may take to stop, with a little room for fx.
const hostStop = 2500 * time.Millisecond

// standard are the recipes of every host that this program runs.
func standard(directory *discovery.Directory) []recipe.Recipe {
	return []recipe.Recipe{lock.Recipe{}, election.Recipe{}, barrier.Recipe{}, queue.Recipe{}, discovery.Recipe{Directory: directory}, config.Recipe{}}
}

// serving gives a host its recipes, and what it serves beside them.
func serving(recipes []recipe.Recipe, directory *discovery.Directory) fx.Option {
	opts := []host.Option{host.WithHTTP("GET /sd/prometheus", directory)}
	for _, r := range recipes {
		opts = append(opts, host.WithRecipe(r))
	}
	return host.Add(opts...)
}

// A hostRun is one run of a host in this process.
type hostRun struct {
	config  host.Config
	plugins []string // the paths of plugins that are not pinned
	dev     bool     // whoever reaches its API may administer its plugins
	log     *slog.Logger
	start   time.Duration // that the start may take
	ready   func(h *host.Host) (done func())
	stop    func() // the stop begins
	explain func(err error) error
}

// runHost runs a host until a signal ends it, or it ends itself.
func (a *app) runHost(ctx context.Context, r hostRun) (err error) {
	ctx, restoreSignals := signal.NotifyContext(ctx, ending()...)
	defer restoreSignals()
	directory := new(discovery.Directory)
	own := standard(directory)
	plugged, err := a.loadPlugins(ctx, r, own)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plugged.close(ctx)) }()
	if own, err = subprocessRecipes(r.config, plugged.launcher, own); err != nil {
		return err
	}
	var h *host.Host
	program := fx.New(
		fx.NopLogger, fx.StartTimeout(r.start), fx.StopTimeout(hostStop),
		host.Module, fx.Supply(r.config, r.log), serving(own, directory), plugged.option(),
		host.Add(host.WithFatal(func(reason string) { a.note("etcd has to end the process: " + oneLine(errors.New(reason))) })),
		fx.Populate(&h),
	)
	if err := program.Err(); err != nil {
		return r.explain(dig.RootCause(err))
	}
	starting, cancel := context.WithTimeout(ctx, r.start)
	defer cancel()
	if err := program.Start(starting); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted before it served
		}
		return r.explain(err)
	}
	plugged.bind(h)
	done := r.ready(h)
	select {
	case <-h.Done():
	case <-ctx.Done():
		a.note("stopping")
		r.stop()
		// A second signal ends the process at once.
		restoreSignals()
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostStop)
	defer cancel()
	err = program.Stop(stopping)
	if errors.Is(err, context.DeadlineExceeded) && h.Err() == nil {
		a.note("not everything has ended within " + hostStop.String() + "; the process ends now, as after a crash: nothing is lost")
		err = nil
	}
	if err == nil {
		err = h.Err() // what ended it by itself
	}
	done()
	if err != nil {
		return r.explain(err)
	}
	return nil
}

// sayReady prints the one line that scripts wait for.
func (a *app) sayReady(h *host.Host) {
	if _, err := fmt.Fprintf(a.stdout, "ready api=%s etcd=%s ui=%s/ui/\n", h.API(), strings.Join(h.Etcd(), ","), h.API()); err != nil {
		a.note(fmt.Sprintf("nobody reads that it is ready: %v", err))
	}
}

// hostError says what stands in the way of a start, and what to do about it.
func hostError(err error, addresses, freeAddresses string) error {
	e := &Error{Exit: ExitFailed, Code: "failed_precondition", Reason: "failed", Message: oneLine(err), cause: err}
	inUse, listens := errors.AsType[*host.AddressInUseError](err)
	switch {
	case e.ofStart(err):
	case errors.Is(err, embedded.ErrDataDirInUse):
		e.Reason = "data_dir_in_use"
		e.Hint = "stop that process, or use another directory with --data-dir"
	case listens:
		e.Reason = "address_in_use"
		e.Message = inUse.Addr + " is in use: another process listens there, perhaps another conclave"
		e.Hint = "stop it, or use free ports: " + freeAddresses
	case errors.Is(err, embedded.ErrPortInUse):
		e.Reason = "address_in_use"
		// etcd's own listener knows which of its addresses it was.
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
			addresses = op.Addr.String()
		}
		e.Message = addresses + " is in use: another process listens there, perhaps another conclave"
		e.Hint = "stop it, or use free ports: " + freeAddresses
	case errors.Is(err, embedded.ErrCorrupt):
		e.Reason = "corrupt"
		e.Hint = "restore it with conclave snapshot restore, or move the data directory away to start empty"
	case errors.Is(err, embedded.ErrConfig), errors.Is(err, host.ErrConfig):
		e.Exit, e.Code, e.Reason = ExitUsage, "invalid_argument", "invalid_configuration"
	case errors.Is(err, embedded.ErrNoQuorum):
		e.Exit, e.Code, e.Reason = ExitUnavailable, "unavailable", "no_quorum"
	case errors.Is(err, host.ErrNoEtcd):
		e.Exit, e.Code, e.Reason = ExitUnavailable, "unavailable", "no_quorum"
		e.Hint = "check etcd.endpoints, and that this etcd is well: conclave etcdctl --endpoints … endpoint health"
	}
	return e
}
