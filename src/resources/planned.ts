/** One limit as a line, as all resources make theirs. */
import { VeldError } from '../lib/errors.ts';
import type { LimitName, LimitWrite, Place, Plan, Resource } from './control.ts';

/**
 * A line for a limit; none where the host cannot hold it and nobody asked for it.
 * @param asked whether it is anything but the default
 * @throws VeldError `property.unsupported` when it was asked for and cannot be held
 */
export function planned(resource: Resource, { groups, host }: Plan, property: LimitName, asked: boolean, value: (place: Place) => string): LimitWrite[] {
  const place = resource.place(groups, property, host);
  if (typeof place !== 'string') return [{ property, group: place.group, file: place.file, value: value(place) }];
  if (asked) throw new VeldError('property.unsupported', `${property} cannot be held: ${place}.`, { details: { property } });
  return [];
}
