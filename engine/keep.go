package engine

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// releaseTimeout is how long giving back what was taken may take.
const releaseTimeout = time.Minute

// keeping is what a step has taken for as long as the run lasts.
type keeping struct {
	Keeper
	s    *stepRun
	stop context.CancelFunc
	ends sync.WaitGroup
}

// take lets an action take what it keeps, and renews it from then on.
func (s *stepRun) take(ctx context.Context, keeper Keeper) (Result, error) {
	res, every, err := keeper.Take(ctx, &recorder{Host: s.h.host, s: s, keeps: true})
	if err != nil || every <= 0 {
		return res, err
	}
	k := &keeping{Keeper: keeper, s: s}
	ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx)) // an interrupt ends the run, not what protects it
	k.ends.Go(func() {
		for s.Sleep(ctx, every) == nil {
			if err := k.Renew(ctx, s.h.host); err != nil && ctx.Err() == nil {
				s.lose(fmt.Errorf("%s: %w; no further step was begun", s.step.ID, err))
				return
			}
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, k)
	return res, nil
}

// lose ends the run, as something that it had taken is another's now.
func (s *stepRun) lose(err error) {
	s.mu.Lock()
	if s.taken == nil {
		s.taken = err
	}
	s.mu.Unlock()
	s.event(Event{Kind: LockLost, Error: err.Error()})
}

// letGo gives back what was taken, the last one first.
func (x *execution) letGo(ctx context.Context) {
	x.mu.Lock()
	kept := x.kept
	x.kept = nil
	x.mu.Unlock()
	for i := len(kept) - 1; i >= 0; i-- {
		k := kept[i]
		k.stop()
		k.ends.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		if err := k.Release(ctx, k.s.h.host); err != nil {
			k.s.event(Event{Kind: LockLost, Error: err.Error()})
		}
		cancel()
	}
}
