package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/queue"
)

// maxItemKey bounds the ids and groups of items.
const maxItemKey = 255

// linesAtOnce is how many items of --lines are put by one call.
const linesAtOnce = 100

type putFlags struct {
	priority int
	delay    durationFlag
	id       string
	group    string
	capacity int
	wait     durationFlag
	lines    bool
}

func (a *app) queuePutCommand() *cobra.Command {
	f := putFlags{delay: durationFlag{name: "delay", max: queue.MaxDelay}, wait: durationFlag{name: "wait", max: maxDuration}}
	cmd := &cobra.Command{
		Use:   "put NAME [VALUE or -]",
		Short: "Put an item into a queue",
		Long: `put puts VALUE, or standard input if there is none or it is -, into the queue NAME, and
prints the id of the item. When it has ended with 0 the item is in etcd, and is delivered
until somebody acks it, or its attempts are used up. Every byte counts, the last line feed
of a file too; at most 262144 bytes. Programs that use the Go library read it as JSON,
unless they chose another codec.

put repeats itself when a host goes away, and the item is there once. If you repeat it, say
an --id: within 5 minutes the same id puts nothing, and prints the id of the first item.
With --lines every line of standard input is an item, without its line feed; when that
fails some of them may be there.

Exit codes of its own: 5 the queue is full (with --capacity), 8 it may be there or not.`,
		Example: `  conclave queue put thumbnails '{"image":"cat.png"}'
  conclave queue put thumbnails - < cat.json
  conclave queue put invoices 4711 --id invoice-4711       # once, however often it is repeated
  conclave queue put reminders '{"to":"me"}' --delay 1h
  conclave queue put thumbnails '{"image":"now.png"}' --priority 10
  seq 1000 | conclave queue put numbers --lines`,
		Args: nameAndOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd, args); err != nil {
				return err
			}
			if err := keyspace.CheckName("name", args[0]); err != nil {
				return usage("invalid_name", "", "%s", err)
			}
			if f.lines {
				return a.queuePutLines(cmd.Context(), args[0], f)
			}
			value, err := a.payload(args[1:])
			if err != nil {
				return err
			}
			return a.queuePut(cmd.Context(), args[0], value, f)
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&f.priority, "priority", 0, "a larger one is delivered first, -128 to 127")
	fs.Var(&f.delay, "delay", "time until it is delivered, at most a year")
	fs.StringVar(&f.id, "id", "", "makes a repeated put harmless, within 5 minutes")
	fs.StringVar(&f.group, "group", "", "items of one group are delivered in their order, one at a time")
	fs.IntVar(&f.capacity, "capacity", 0, "exit with 5 if so many items are in the queue, 1 to 1000000; the same for all")
	fs.Var(&f.wait, "wait", "longest time to wait for room, with --capacity")
	fs.BoolVar(&f.lines, "lines", false, "every line of standard input is an item")
	return cmd
}

// nameAndOne wants NAME and at most one more.
func nameAndOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return exactly(2, "NAME")(cmd, args)
	}
	return exactly(1, "NAME")(cmd, args)
}

// check finds what pflag cannot.
func (f *putFlags) check(cmd *cobra.Command, args []string) error {
	given := cmd.Flags().Changed
	switch {
	case f.priority < minPriority || f.priority > maxPriority:
		return usage("invalid_priority", "", "--priority: %d is outside the limits: it must be between %d and %d", f.priority, minPriority, maxPriority)
	case given("capacity") && (f.capacity < 1 || f.capacity > queue.MaxCapacity):
		return usage("invalid_capacity", "", "--capacity: %d is outside the limits: it must be between 1 and %d", f.capacity, queue.MaxCapacity)
	case f.wait.set && f.capacity == 0:
		return usage("invalid_wait", "", "--wait waits for room: it needs --capacity")
	case f.group != "" && f.delay.value > 0:
		return usage("invalid_delay", "leave out one of the two", "--delay: an item of a group cannot be delayed")
	case f.lines && (len(args) > 1 && args[1] != "-" || given("id")):
		return usage("invalid_lines", "leave out one of the two", "--lines reads items from standard input, and excludes VALUE and --id")
	}
	for _, text := range []struct{ flag, value string }{{"id", f.id}, {"group", f.group}} {
		if given(text.flag) && text.value == "" {
			return usage("invalid_"+text.flag, "", "--%s: is empty", text.flag)
		}
		if err := keyspace.CheckText("--"+text.flag, text.value, maxItemKey); err != nil {
			return usage("invalid_"+text.flag, "", "%s", err)
		}
	}
	return nil
}

// payload is the value that a put is about.
func (a *app) payload(args []string) ([]byte, error) {
	var from io.Reader
	switch {
	case len(args) == 0 && isTerminalIn(a.stdin):
		return nil, usage("invalid_arguments", "give it as text, or as - for standard input", "VALUE is missing")
	case len(args) == 0, args[0] == "-":
		from = a.stdin
	default:
		from = bytes.NewReader([]byte(args[0]))
	}
	value, err := io.ReadAll(io.LimitReader(from, queue.MaxPayload+1))
	switch {
	case err != nil:
		return nil, usage("invalid_value", "", "VALUE: standard input: %v", err)
	case len(value) > queue.MaxPayload:
		return nil, tooLarge("VALUE")
	}
	return value, nil
}

func tooLarge(what string) error {
	return usage("invalid_value", "put it elsewhere, and its name into the queue", "%s: has more than %d bytes, which is the limit", what, queue.MaxPayload)
}

// item is what is put of a value.
func (f *putFlags) item(value []byte) *queuev1.Put {
	p := &queuev1.Put{Priority: int32(f.priority), DedupId: f.id, Group: f.group} //nolint:gosec // within int8
	p.Value, p.Data = textOrData(value)
	if f.delay.value > 0 {
		p.Delay = durationpb.New(f.delay.value)
	}
	return p
}

// request is what puts items. The host waits, not this process.
func (f *putFlags) request(namespace, name string, items ...*queuev1.Put) *queuev1.EnqueueRequest {
	req := &queuev1.EnqueueRequest{Namespace: namespace, Name: name, Items: items, Capacity: int32(f.capacity)} //nolint:gosec // at most a million
	if f.wait.value > 0 {
		req.Wait = durationpb.New(f.wait.value)
	}
	return req
}

// putting bounds a put.
func (f *putFlags) putting() time.Duration { return f.wait.value + answering }

func (a *app) queuePut(ctx context.Context, name string, value []byte, f putFlags) error {
	own := f.id == ""
	if own {
		f.id = rand.Text() // so that it may be repeated when an answer was lost
	}
	return a.withQueue(ctx, name, f.putting(), func(ctx context.Context, t target, q queues) error {
		ids, err := enqueue(ctx, q, f.request(a.namespace(t), name, f.item(value)))
		if err != nil {
			return a.notPut(name, err)
		}
		return a.printPut(name, ids[0])
	})
}

// enqueue makes one call that may be repeated: the items have an id.
func enqueue(ctx context.Context, q queues, req *queuev1.EnqueueRequest) (ids []string, err error) {
	if err := q.Reach(ctx); err != nil {
		return nil, err
	}
	err = q.Wait(ctx, req.GetWait(), func(cc grpc.ClientConnInterface, left *durationpb.Duration) error {
		req.Wait = left
		resp, err := q.client(cc).Enqueue(ctx, req)
		ids = resp.GetIds()
		return err
	})
	if err == nil && len(ids) != len(req.GetItems()) {
		err = errors.New("the answer does not name what was put")
	}
	return ids, err
}

func (a *app) notPut(name string, err error) error {
	if e := queueRefused(name, err); e != nil {
		return e
	}
	return err
}

func (a *app) printPut(name, id string) error {
	return a.printItem(struct {
		Name string `json:"name"`
		ID   string `json:"id"`
	}{name, id}, []string{id})
}

// queuePutLines puts every line of standard input.
func (a *app) queuePutLines(ctx context.Context, name string, f putFlags) error {
	return a.withQueue(ctx, name, 0, func(ctx context.Context, t target, q queues) error {
		lines := bufio.NewScanner(a.stdin)
		lines.Buffer(nil, queue.MaxPayload+2)
		var items []*queuev1.Put
		n := 0
		flush := func() error {
			if len(items) == 0 {
				return nil
			}
			if err := a.putSome(ctx, t, q, name, items, f); err != nil {
				if n > 0 {
					a.note(fmt.Sprintf("queue %q: %d lines before were put", name, n))
				}
				return err
			}
			n, items = n+len(items), nil
			return nil
		}
		for lines.Scan() {
			if items = append(items, f.item(bytes.Clone(lines.Bytes()))); len(items) == linesAtOnce {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if errors.Is(lines.Err(), bufio.ErrTooLong) {
			return errors.Join(tooLarge(fmt.Sprintf("line %d", n+len(items)+1)), flush())
		} else if lines.Err() != nil {
			return usage("invalid_value", "", "standard input: %v", lines.Err())
		}
		return flush()
	})
}

// putSome puts several items by one call, which is not repeated.
func (a *app) putSome(ctx context.Context, t target, q queues, name string, items []*queuev1.Put, f putFlags) error {
	ctx, cancel := a.bounded(ctx, f.putting())
	defer cancel()
	resp, err := act(ctx, q, queuev1.QueueServiceClient.Enqueue, f.request(a.namespace(t), name, items...))
	if err != nil {
		return explain(ctx, t, a.notPut(name, err))
	}
	for _, id := range resp.GetIds() {
		if err := a.printPut(name, id); err != nil {
			return err
		}
	}
	return nil
}
