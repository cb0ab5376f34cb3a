package host

import "time"

// CheckEvery sets how often recipes are asked whether they are well.
func CheckEvery(d time.Duration) Option { return func(o *options) { o.checkEvery = d } }
