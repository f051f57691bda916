// Types of the part of lit-html that the pages use. Ours, not lit-html's: its own types need two more packages.
export interface TemplateResult { readonly strings: TemplateStringsArray; readonly values: unknown[]; }
export declare const html: (strings: TemplateStringsArray, ...values: unknown[]) => TemplateResult;
export declare const svg: (strings: TemplateStringsArray, ...values: unknown[]) => TemplateResult;
export declare const nothing: unique symbol;
export declare function render(value: unknown, container: HTMLElement | DocumentFragment): unknown;
