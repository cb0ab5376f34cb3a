package barrier

// An Option sets up a barrier. An option that does not concern a type has no effect
// on it; values outside their limits make every call return core.ErrInvalid.
type Option func(*options)

type options struct {
	purpose    string
	persistent bool
	breaks     bool
	one        bool
	operation  string
}

func optionsOf(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithPurpose says what the barrier is held or entered for, at most 256 bytes.
// Others see it in [Party].
func WithPurpose(text string) Option { return func(o *options) { o.purpose = text } }

// WithPersistent makes a [Barrier]'s holds outlive the session: the barrier stays
// closed until one of them is released, by whichever process resumes it with its
// token ([Barrier.Resume]), or it is opened by [Barrier.Open].
func WithPersistent() Option { return func(o *options) { o.persistent = true } }

// WithBreakOnLoss makes a loss break the barrier. The default is to go on.
//
// Of a [Barrier] it concerns the holder: if its hold ends by anything but Release
// or Open, [Barrier.Wait] returns [ErrBroken] to everybody, until the barrier is
// held again. Of a [Double] barrier it concerns those who wait to enter: if one of
// them is lost, all others of that generation get ErrBroken. Whoever comes to a
// generation first decides for it. A [Cyclic] barrier always breaks.
func WithBreakOnLoss() Option { return func(o *options) { o.breaks = true } }

// WithOnePerSession makes the session, and not the caller, the party: a call that
// finds that the session holds, waits or has entered already goes on there, in
// whatever process that was. It is for hosts that run barriers for remote callers.
func WithOnePerSession() Option { return func(o *options) { o.one = true } }

// WithOperation names the arrival at a [Cyclic] barrier, at most 255 bytes, so that
// a call that is repeated, also by another process of the session, is the same
// arrival and returns the same generation. It needs [WithOnePerSession]; the last 16
// generations are remembered.
func WithOperation(id string) Option { return func(o *options) { o.operation = id } }
