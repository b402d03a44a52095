CREATE OR REPLACE MODEL `bqml_tutorial.penguins_model`
OPTIONS
  (model_type='linear_reg',
  input_label_cols=['body_mass_g']) AS
SELECT
  *
FROM
  `bigquery-public-data.ml_datasets.penguins`
WHERE
  body_mass_g IS NOT NULL

SELECT
  *
FROM
  ML.EVALUATE(MODEL `bqml_tutorial.penguins_model`,
    (
    SELECT
      *
    FROM
      `bigquery-public-data.ml_datasets.penguins`
    WHERE
      body_mass_g IS NOT NULL))

SELECT
  *
FROM
  ML.PREDICT(MODEL `bqml_tutorial.penguins_model`,
    (
    SELECT
      *
    FROM
      `bigquery-public-data.ml_datasets.penguins`
    WHERE island = "Biscoe"))

SELECT
  *
FROM
  ML.EXPLAIN_PREDICT(MODEL `bqml_tutorial.penguins_model`,
    (
    SELECT
      *
    FROM
      `bigquery-public-data.ml_datasets.penguins`
    WHERE island = "Biscoe"),
    STRUCT(3 as top_k_features))

CREATE OR REPLACE MODEL `bqml_tutorial.penguins_explained`
OPTIONS (
  model_type = 'linear_reg',
  input_label_cols = ['body_mass_g'],
  enable_global_explain = TRUE) AS
SELECT *
FROM `bigquery-public-data.ml_datasets.penguins`
WHERE body_mass_g IS NOT NULL;
SELECT * FROM ML.GLOBAL_EXPLAIN(MODEL `bqml_tutorial.penguins_explained`)

CREATE OR REPLACE MODEL `bqml_tutorial.penguins_hp`
OPTIONS(model_type='linear_reg', input_label_cols=['body_mass_g'], num_trials=4, max_parallel_trials=2, l1_reg=hparam_range(0, 20), l2_reg=hparam_candidates([0, 0.1, 1, 10])) AS
SELECT * FROM `bigquery-public-data.ml_datasets.penguins` WHERE body_mass_g IS NOT NULL

SELECT * FROM ML.TRIAL_INFO(MODEL `bqml_tutorial.penguins_hp`)

SELECT * FROM ML.EVALUATE(MODEL `bqml_tutorial.penguins_hp`)

SELECT * FROM ML.PREDICT(MODEL `bqml_tutorial.penguins_hp`, (SELECT * FROM `bigquery-public-data.ml_datasets.penguins` WHERE body_mass_g IS NOT NULL)) LIMIT 3

CREATE OR REPLACE MODEL `bqml_tutorial.species`
TRANSFORM (
  species,
  ML.QUANTILE_BUCKETIZE(culmen_length_mm, 4) OVER () AS culmen_length_mm,
  ML.STANDARD_SCALER(flipper_length_mm) OVER () AS flipper_length_mm,
  ML.MIN_MAX_SCALER(culmen_depth_mm) OVER () AS culmen_depth_mm,
  ML.IMPUTER(sex, 'most_frequent') OVER () AS sex,
  ML.LABEL_ENCODER(island) OVER () AS island)
OPTIONS (model_type='logistic_reg', input_label_cols=['species'], l2_reg=1) AS
SELECT * EXCEPT (body_mass_g) FROM `bigquery-public-data.ml_datasets.penguins` WHERE sex != '.' OR sex IS NULL

SELECT species, predicted_species, ARRAY_LENGTH(predicted_species_probs) AS classes, ROUND(predicted_species_probs[SAFE_OFFSET(0)].prob, 2) AS prob
FROM ML.PREDICT(MODEL `bqml_tutorial.species`, TABLE `bigquery-public-data.ml_datasets.penguins`) ORDER BY prob LIMIT 5

SELECT * FROM ML.CONFUSION_MATRIX(MODEL `bqml_tutorial.species`, (SELECT * FROM `bigquery-public-data.ml_datasets.penguins`))

SELECT processed_input, class_label, weight FROM ML.WEIGHTS(MODEL `bqml_tutorial.species`) ORDER BY 1, 2

CREATE OR REPLACE MODEL `bqml_tutorial.prep`
TRANSFORM (
  ML.ROBUST_SCALER(body_mass_g) OVER () AS body_mass_g,
  ML.ONE_HOT_ENCODER(species) OVER () AS species,
  ML.MAX_ABS_SCALER(culmen_length_mm) OVER () AS culmen_length_mm,
  sex)
OPTIONS (model_type = 'transform_only') AS
SELECT * FROM `bigquery-public-data.ml_datasets.penguins`;
SELECT * FROM ML.TRANSFORM(MODEL `bqml_tutorial.prep`, TABLE `bigquery-public-data.ml_datasets.penguins`) LIMIT 5

CREATE OR REPLACE MODEL `bqml_tutorial.two_step` OPTIONS(model_type='kmeans', num_clusters=3) AS
SELECT body_mass_g, culmen_length_mm, sex FROM ML.TRANSFORM(MODEL `bqml_tutorial.prep`, TABLE `bigquery-public-data.ml_datasets.penguins`)

CREATE OR REPLACE MODEL `bqml_tutorial.pca` OPTIONS(model_type='PCA', pca_explained_variance_ratio=0.8, scale_features=TRUE) AS
SELECT * EXCEPT(species) FROM `bigquery-public-data.ml_datasets.penguins`

SELECT * FROM ML.PRINCIPAL_COMPONENTS(MODEL `bqml_tutorial.pca`) ORDER BY principal_component_id

SELECT * FROM ML.PRINCIPAL_COMPONENT_INFO(MODEL `bqml_tutorial.pca`)

CREATE OR REPLACE MODEL `bqml_tutorial.pca_species` OPTIONS(model_type='logistic_reg', input_label_cols=['species']) AS
SELECT species, principal_component_1, principal_component_2
FROM ML.PREDICT(MODEL `bqml_tutorial.pca`, TABLE `bigquery-public-data.ml_datasets.penguins`)

SELECT * FROM ML.GENERATE_EMBEDDING(MODEL `bqml_tutorial.pca`, TABLE `bigquery-public-data.ml_datasets.penguins`) LIMIT 2

SELECT * FROM ML.DETECT_ANOMALIES(MODEL `bqml_tutorial.pca`, STRUCT(0.2 AS contamination), TABLE `bigquery-public-data.ml_datasets.penguins`) WHERE is_anomaly

SELECT species, ML.STANDARD_SCALER(body_mass_g) OVER () AS scaled, ML.BUCKETIZE(flipper_length_mm, [190, 210]) AS flipper, ML.POLYNOMIAL_EXPAND(STRUCT(culmen_length_mm AS l, culmen_depth_mm AS d), 2) AS p
FROM `bigquery-public-data.ml_datasets.penguins` LIMIT 3

ALTER MODEL `bqml_tutorial.pca` SET OPTIONS (description = "Components of penguins", labels = [("team", "birds")])

EXPORT MODEL `bqml_tutorial.penguins_model` OPTIONS(URI = '{folder}')

DROP MODEL IF EXISTS `bqml_tutorial.penguins_hp`

CREATE MODEL IF NOT EXISTS `bqml_tutorial.pca` OPTIONS(model_type='pca', num_principal_components=2) AS SELECT body_mass_g, culmen_length_mm FROM `bigquery-public-data.ml_datasets.penguins`
