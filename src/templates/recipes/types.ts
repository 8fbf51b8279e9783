/** A recipe: how a template is made, as its file says it. The file's form is told by parse.ts and docs/how-to/recipes.md. */
import type { TemplateInit } from '../types.ts';

/** A line of shell, and where it stands. */
export interface RecipeLine {
  command: string;
  /** In the file, from 1. */
  line: number;
}

/** A file of the template. One of `content` and `source` is there. */
export interface RecipeFile {
  /** Absolute, in the template. */
  path: string;
  content: string | null;
  /** Path of a file beside the recipe, relative to its folder, without `..`. */
  source: string | null;
  /** Octal digits. */
  mode: string;
  /** USER[:GROUP], names or numbers of the template. */
  owner: string;
  line: number;
}

export interface RecipeUser {
  name: string;
  uid: number | null;
  /** Besides its own; those that are not there are made. */
  groups: string[];
  shell: string | null;
  home: string | null;
  /** One of a service: without a home, with a number below 1000. */
  system: boolean;
  /** Lines of authorized_keys, sshd(8). */
  keys: string[];
  line: number;
}

export interface RecipeLimits {
  /** Bytes that the finished tree may have. */
  size: number;
  /** Bytes of memory that the VEs have in which it is made and tried; null: as any VE. */
  memory: number | null;
  /** Seconds that one line may take. */
  time: number;
}

export interface Recipe {
  /** Of the template. */
  name: string;
  description: string;
  /** What it begins with: packages of a distribution, or a template. */
  from: { suite: string } | { template: string };
  /** Of a suite. */
  init: TemplateInit;
  /** Of a suite; null: as ever. */
  mirror: string | null;
  packages: string[];
  files: RecipeFile[];
  users: RecipeUser[];
  run: RecipeLine[];
  services: { enable: string[]; disable: string[] };
  limits: RecipeLimits;
  tests: RecipeLine[];
}
