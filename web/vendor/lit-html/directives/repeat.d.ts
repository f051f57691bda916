// Types of the directive as the pages use it. Ours, not lit-html's.
export declare function repeat<T>(items: Iterable<T>, key: (item: T) => unknown, template: (item: T) => unknown): unknown;
