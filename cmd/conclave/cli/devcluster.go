package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"

	"github.com/conclavehq/conclave/cmd/conclave/internal/nodes"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/host"
)

const (
	// roleNode is the hidden role in which this binary runs one node of a dev.
	roleNode = "__node"

	// nodeStop is how long a node may take to stop: what a host may, and a process's
	// end on a busy machine.
	nodeStop = hostStop + 1500*time.Millisecond

	claimName = "dev.lock"
)

// A devCluster is a dev of several nodes.
type devCluster struct {
	app  *app
	plan *nodePlan
	all  []*devNode
}

// A devNode is a node, and the turn of those who change whether it runs.
type devNode struct {
	*nodes.Node
	turn sync.Mutex
}

// devNodes runs a cluster of n nodes until a signal ends it.
func (a *app) devNodes(ctx context.Context, cfg host.Config, plugins []string, n int) error {
	ctx, restoreSignals := signal.NotifyContext(ctx, ending()...)
	defer restoreSignals()
	if err := cfg.Check(); err != nil {
		return configError(err)
	}
	unclaim, err := claimDev(cfg.DataDir, n)
	if err != nil {
		return err
	}
	defer unclaim()
	plan, err := planNodes(cfg, n)
	if err == nil {
		err = plan.write(cfg.DataDir)
	}
	if err != nil {
		return err
	}
	c, err := a.newCluster(cfg, plugins, plan)
	if err != nil {
		return err
	}
	defer c.shutDown()
	starting, cancel := context.WithTimeout(ctx, devStart)
	defer cancel()
	err = c.begin(starting, c.all)
	if err == nil && !plan.Founded {
		plan.Founded = true
		err = plan.write(cfg.DataDir)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // interrupted before it served
		}
		return err
	}
	if err := c.serve(ctx, cfg.DataDir); err != nil {
		return err
	}
	a.note("stopping")
	// A second signal ends the process at once, and the nodes with it.
	restoreSignals()
	return nil
}

// claimDev makes the data directory and keeps every other dev from it.
func claimDev(dir string, n int) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, hostError(fmt.Errorf("data directory: %w", err), "", "")
	}
	for i := range n {
		if err := embedded.Free(filepath.Join(dir, nodeName(i))); err != nil {
			return nil, hostError(err, "", "")
		}
	}
	path := filepath.Join(dir, claimName)
	f, err := fileutil.TryLockFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		b, _ := os.ReadFile(path) // where the lock keeps it from being read, the message does without
		return nil, hostError(fmt.Errorf("%w: %s is held by process %s", embedded.ErrDataDirInUse, dir, strings.TrimSpace(string(b))), "", "")
	}
	if err != nil {
		return nil, hostError(fmt.Errorf("data directory: %w", err), "", "")
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { _ = f.Close() }, nil
}

func (a *app) newCluster(cfg host.Config, plugins []string, plan *nodePlan) (*devCluster, error) {
	self, err := nodes.Self()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	c := &devCluster{app: a, plan: plan}
	run := nodes.Config{
		Path: self, Args: []string{os.Args[0], roleNode}, Env: a.environ,
		Output: nodes.NewOutput(a.stderr, len(nodeName(len(plan.Nodes))), a.colourful(a.stderr)),
		Ended: func(n *nodes.Node, how string) {
			a.note(fmt.Sprintf("%s has ended (%s); start it again with: conclave dev start %d", n.Name, how, n.Index+1))
		},
	}
	for i := range plan.Nodes {
		order := func() ([]byte, error) { return json.Marshal(nodeOrder{plan.config(cfg, i), plugins}) }
		c.all = append(c.all, &devNode{Node: nodes.New(run, i, nodeName(i), order)})
	}
	return c, nil
}

// serve announces the cluster, says that it is ready, and answers its commands until
// ctx ends.
func (c *devCluster) serve(ctx context.Context, dataDir string) error {
	a := c.app
	control, err := c.listenControl(dataDir)
	if err != nil {
		a.note(fmt.Sprintf("dev stop, start, restart and kill will not find this one: %v", err))
	}
	defer control.close()
	var apis, etcds, uis []string
	for _, n := range c.all {
		said, err := n.Await(ctx)
		if err != nil {
			return nil // it has served: only ctx can have ended
		}
		for field := range strings.FieldsSeq(said) {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "api":
				apis = append(apis, value)
			case "etcd":
				etcds = append(etcds, value)
			case "ui":
				uis = append(uis, value)
			}
		}
	}
	remove, err := a.announce(devState{PID: os.Getpid(), API: apis, Endpoints: etcds, DataDir: dataDir, Nodes: len(c.all), Control: control.path})
	if err != nil {
		a.note(fmt.Sprintf("other commands will need --api to find this one: %v", err))
		remove = func() {}
	}
	defer remove()
	a.note("data directory " + dataDir)
	if _, err := fmt.Fprintf(a.stdout, "%s api=%s etcd=%s ui=%s\n", nodes.ReadyWord, strings.Join(apis, ","), strings.Join(etcds, ","), strings.Join(uis, ",")); err != nil {
		a.note(fmt.Sprintf("nobody reads that it is ready: %v", err))
	}
	<-ctx.Done()
	return nil
}

// begin starts nodes together, and waits until they serve, if so many run that they
// can.
func (c *devCluster) begin(ctx context.Context, chosen []*devNode) error {
	for _, n := range chosen {
		if err := n.Start(); err != nil {
			return &Error{Exit: ExitFailed, Code: "failed_precondition", Reason: "failed", cause: err, Message: fmt.Sprintf("%s: %v", n.Name, err)}
		}
	}
	running := 0
	for _, n := range c.all {
		if state, _ := n.State(); state != nodes.Down {
			running++
		}
	}
	if need := len(c.all)/2 + 1; running < need {
		c.app.note(fmt.Sprintf("%s: started; they serve when %d of the %d nodes run", names(chosen), need, len(c.all)))
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, n := range chosen {
		all.Go(func() {
			if _, err := n.Await(ctx); err != nil && ctx.Err() == nil {
				cancel(nodeError(n.Node, err)) // the others need not be waited for
			}
		})
	}
	all.Wait()
	return nodeError(nil, context.Cause(ctx))
}

// nodeError is why a node did not serve.
func nodeError(n *nodes.Node, err error) error {
	if n == nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "no_quorum", cause: err,
				Message: fmt.Sprintf("the nodes do not serve after %v", devStart), Hint: "see what they wrote above"}
		}
		return err
	}
	if said, ok := errors.AsType[*nodes.FailedError](err); ok {
		var f nodeFailure
		if json.Unmarshal([]byte(said.Text), &f) == nil && f.Error != nil {
			f.Error.Exit, f.Error.Message, f.Error.cause = f.Exit, n.Name+": "+f.Error.Message, err
			return f.Error
		}
	}
	return &Error{Exit: ExitFailed, Code: "failed_precondition", Reason: "failed", cause: err, Message: fmt.Sprintf("%s: %v", n.Name, err)}
}

func names(chosen []*devNode) string {
	var all []string
	for _, n := range chosen {
		all = append(all, n.Name)
	}
	return strings.Join(all, ", ")
}

// end stops nodes together, and returns when they have ended.
func (c *devCluster) end(chosen []*devNode) {
	ctx, cancel := context.WithTimeout(context.Background(), nodeStop)
	defer cancel()
	var all sync.WaitGroup
	for _, n := range slices.Backward(chosen) {
		all.Go(func() {
			if n.Stop(ctx) {
				c.app.note(fmt.Sprintf("%s did not stop in %v and was killed", n.Name, nodeStop))
			}
		})
	}
	all.Wait()
}

func (c *devCluster) shutDown() { c.end(c.all) }
